// Attention in plain C++ with the compiler's own vectors of four: for processors without a kernel of their own.
#include "attention/widened.h"

namespace quire::attention {
namespace {

typedef float Four __attribute__((vector_size(16)));
typedef int32_t FourInts __attribute__((vector_size(16)));

struct Vectors {
  using F = Four;
  static constexpr int LANES = 4, COLUMNS = 2, PAIR_COLUMNS = 1;

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
  static inline F at_most(F x, float limit) { return x > set(limit) ? set(limit) : x; }
  static inline F fma(F a, F b, F c) { return a * b + c; }
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

  // 2^x of an x up to 128, to 2e-7; exactly 1 at 0, 0 below -126, none for none.
  static inline F exp2(F x) {
    // Adding and taking away 1.5 * 2^23 rounds to a whole number n; with 127 more the sum ends in n's exponent.
    const F sum = x + set(12583039.0f), f = x - (sum - set(12583039.0f));
    FourInts power;
    std::memcpy(&power, &sum, sizeof sum);
    power <<= 23;
    F scale;
    std::memcpy(&scale, &power, sizeof scale);
    return x < set(-126.0f) ? zero() : polynomial(f) * scale;
  }
  // 2^f, -1/2 <= f <= 1/2, to 9e-8 and exact at 0: a minimax of the relative error.
  static inline F polynomial(F f) {
    F p = set(0.0013264727f);
    p = fma(p, f, set(0.009671513f));
    p = fma(p, f, set(0.055507336f));
    p = fma(p, f, set(0.24022242f));
    p = fma(p, f, set(0.693147f));
    return fma(p, f, set(1.0f));
  }

  static inline F load_f16(const uint16_t *at) {
    return F{from_f16(at[0]), from_f16(at[1]), from_f16(at[2]), from_f16(at[3])};
  }
  static inline void store_f16(uint16_t *at, F x) {
    for (int i = 0; i < LANES; ++i) at[i] = to_f16(x[i]);
  }
  static inline Two<Vectors> load_bf16(const uint16_t *at);
  static inline Two<Vectors> load_fp8(const uint8_t *at);
  static inline Two<Vectors> load_int8(const uint8_t *at);
};

// Number i of a pair's even or odd half.
template <typename Number, typename Convert>
inline Two<Vectors> pairs(const Number *at, const Convert &convert) {
  Two<Vectors> two;
  for (int i = 0; i < Vectors::LANES; ++i) {
    two.even[i] = convert(at[2 * i]);
    two.odd[i] = convert(at[2 * i + 1]);
  }
  return two;
}

inline Two<Vectors> Vectors::load_bf16(const uint16_t *at) { return pairs(at, from_bf16); }
inline Two<Vectors> Vectors::load_fp8(const uint8_t *at) { return pairs(at, from_fp8); }
inline Two<Vectors> Vectors::load_int8(const uint8_t *at) {
  return pairs(at, [](uint8_t x) { return float(int8_t(x)); });
}

}  // namespace

const Kernels kernels_portable = kernels_widened<Vectors>();

}  // namespace quire::attention
