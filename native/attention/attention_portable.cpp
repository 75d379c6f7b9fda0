// Attention in plain C++ with the compiler's own vectors of four: for processors without a kernel of their own.
#include "attention/tile.h"
#include "numbers.h"

namespace quire::attention {
namespace {

typedef float Four __attribute__((vector_size(16)));
typedef int32_t FourInts __attribute__((vector_size(16)));

struct Vectors {
  using F = Four;
  static constexpr int LANES = 4;

  static inline F zero() { return set(0.0f); }
  static inline F set(float x) { return F{x, x, x, x}; }
  static inline F load(const float *at) {
    F x;
    std::memcpy(&x, at, sizeof x);
    return x;
  }
  static inline void store(float *at, F x) { std::memcpy(at, &x, sizeof x); }
  static inline F add(F a, F b) { return a + b; }
  static inline F sub(F a, F b) { return a - b; }
  static inline F mul(F a, F b) { return a * b; }
  static inline F div(F a, F b) { return a / b; }
  static inline F max(F a, F b) { return a > b ? a : b; }
  static inline F fma(F a, F b, F c) { return a * b + c; }
  static inline float first(F x) { return x[0]; }
  static inline float max_lane(F x) {
    float top = x[0];
    for (int i = 1; i < LANES; ++i) top = x[i] > top ? x[i] : top;
    return top;
  }
  static inline float sum_lanes(F x) { return (x[0] + x[1]) + (x[2] + x[3]); }

  // Lanes begin <= i < end as they are, the others minus infinity.
  static inline F keep(F x, int64_t begin, int64_t end) {
    for (int i = 0; i < LANES; ++i)
      if (i < begin || i >= end) x[i] = MINUS_INFINITY;
    return x;
  }

  // 2^x to 1e-7; exactly 1 at 0, 0 below -126. Cephes' polynomial for 2^f, -1/2 <= f <= 1/2.
  static inline F exp2(F x) {
    F inside = x < set(-127.0f) ? set(-127.0f) : x;
    inside = inside > set(127.0f) ? set(127.0f) : inside;
    // Adding and taking away 1.5 * 2^23 rounds to a whole number.
    const F n = (inside + set(12582912.0f)) - set(12582912.0f), f = inside - n;
    F p = set(1.535336188319500e-4f);
    p = fma(p, f, set(1.339887440266574e-3f));
    p = fma(p, f, set(9.618437357674640e-3f));
    p = fma(p, f, set(5.550332471162809e-2f));
    p = fma(p, f, set(2.402264791363012e-1f));
    p = fma(p, f, set(6.931472028550421e-1f));
    p = fma(p, f, set(1.0f));
    // A NaN has no whole part; its p is NaN whatever it is multiplied with.
    const F whole = n == n ? n : zero();
    const FourInts power = (__builtin_convertvector(whole, FourInts) + 127) << 23;
    F scale;
    std::memcpy(&scale, &power, sizeof scale);
    return x < set(-126.0f) ? zero() : p * scale;
  }
};

// What all types have in common here: the left side is float32.
struct Widened {
  using Left = float;
  static inline Four factor(const float *x) { return Vectors::set(*x); }
  static inline void clear(float *to, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) to[i] = 0.0f;
  }
  static inline void put(float *to, const Four (&x)[16]) {
    for (int v = 0; v < 16; ++v) Vectors::store(to + v * 4, x[v]);
  }
};

struct WidenedBf16 : Widened {
  struct Pair {
    Four even, odd;
  };
  using T = uint16_t;
  using Right = Pair;
  static constexpr int PAIR = 2, LEFT_STEP = 2, COLUMNS = 1;

  static inline const float *factor(const float *x) { return x; }
  static inline Pair load(const uint16_t *at) {
    Pair pair;
    for (int i = 0; i < 4; ++i) {
      pair.even[i] = from_bf16(at[2 * i]);
      pair.odd[i] = from_bf16(at[2 * i + 1]);
    }
    return pair;
  }
  static inline Four dot(Four sum, Pair right, const float *left) {
    return right.odd * left[1] + (right.even * left[0] + sum);
  }
  static inline void take(const uint16_t *from, float *to, int64_t count) {
    for (int64_t i = 0; i < count; ++i) to[i] = from_bf16(from[i]);
  }
  static inline void narrow(const float *from, uint16_t *to, int64_t count) {
    for (int64_t i = 0; i < count; ++i) to[i] = to_bf16(from[i]);
  }
};

struct WidenedF16 : Widened {
  using T = uint16_t;
  using Right = Four;
  static constexpr int PAIR = 1, LEFT_STEP = 1, COLUMNS = 2;

  static inline Four load(const uint16_t *at) {
    return Four{from_f16(at[0]), from_f16(at[1]), from_f16(at[2]), from_f16(at[3])};
  }
  static inline Four dot(Four sum, Four right, Four left) { return right * left + sum; }
  static inline void take(const uint16_t *from, float *to, int64_t count) {
    for (int64_t i = 0; i < count; ++i) to[i] = from_f16(from[i]);
  }
  static inline void narrow(const float *from, uint16_t *to, int64_t count) {
    for (int64_t i = 0; i < count; ++i) to[i] = to_f16(from[i]);
  }
};

struct PlainF32 : Widened {
  using T = float;
  using Right = Four;
  static constexpr int PAIR = 1, LEFT_STEP = 1, COLUMNS = 2;

  static inline Four load(const float *at) { return Vectors::load(at); }
  static inline Four dot(Four sum, Four right, Four left) { return right * left + sum; }
  static inline void take(const float *from, float *to, int64_t count) { std::memcpy(to, from, size_t(count) * 4); }
  static inline void narrow(const float *from, float *to, int64_t count) { std::memcpy(to, from, size_t(count) * 4); }
};

}  // namespace

const Kernels kernels_portable = kernels<Vectors, WidenedBf16, WidenedF16, PlainF32>();

}  // namespace quire::attention
