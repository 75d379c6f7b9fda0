// Attention with AVX2, FMA and F16C: every type is widened to float32.
#include <immintrin.h>

#include "attention/tile.h"
#include "numbers.h"

namespace quire::attention {
namespace {

struct Vectors {
  using F = __m256;
  static constexpr int LANES = 8;

  static inline F zero() { return _mm256_setzero_ps(); }
  static inline F set(float x) { return _mm256_set1_ps(x); }
  static inline F load(const float *at) { return _mm256_loadu_ps(at); }
  static inline void store(float *at, F x) { _mm256_storeu_ps(at, x); }
  static inline F add(F a, F b) { return _mm256_add_ps(a, b); }
  static inline F sub(F a, F b) { return _mm256_sub_ps(a, b); }
  static inline F mul(F a, F b) { return _mm256_mul_ps(a, b); }
  static inline F div(F a, F b) { return _mm256_div_ps(a, b); }
  static inline F max(F a, F b) { return _mm256_max_ps(a, b); }
  static inline F fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
  static inline float first(F x) { return _mm256_cvtss_f32(x); }
  static inline float max_lane(F x) {
    __m128 half = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    half = _mm_max_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_max_ss(half, _mm_movehdup_ps(half)));
  }
  static inline float sum_lanes(F x) {
    __m128 half = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    half = _mm_add_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
  }

  // Lanes begin <= i < end as they are, the others minus infinity.
  static inline F keep(F x, int64_t begin, int64_t end) {
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const __m256i kept = _mm256_andnot_si256(_mm256_cmpgt_epi32(_mm256_set1_epi32(int(begin)), lane),
                                             _mm256_cmpgt_epi32(_mm256_set1_epi32(int(end)), lane));
    return _mm256_blendv_ps(set(MINUS_INFINITY), x, _mm256_castsi256_ps(kept));
  }

  // 2^x to 1e-7; exactly 1 at 0, 0 below -126. Cephes' polynomial for 2^f, -1/2 <= f <= 1/2.
  static inline F exp2(F x) {
    // The second operand of max and min is the one that comes out when it is no number.
    const F inside = _mm256_min_ps(set(127.0f), _mm256_max_ps(set(-127.0f), x));
    const F n = _mm256_round_ps(inside, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC), f = sub(inside, n);
    F p = set(1.535336188319500e-4f);
    p = fma(p, f, set(1.339887440266574e-3f));
    p = fma(p, f, set(9.618437357674640e-3f));
    p = fma(p, f, set(5.550332471162809e-2f));
    p = fma(p, f, set(2.402264791363012e-1f));
    p = fma(p, f, set(6.931472028550421e-1f));
    p = fma(p, f, set(1.0f));
    const __m256i power = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);
    return _mm256_andnot_ps(_mm256_cmp_ps(x, set(-126.0f), _CMP_LT_OQ), mul(p, _mm256_castsi256_ps(power)));
  }
};

// What all types have in common here: the left side is float32.
struct Widened {
  using Left = float;
  static inline __m256 factor(const float *x) { return _mm256_set1_ps(*x); }
  static inline void clear(float *to, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) to[i] = 0.0f;
  }
  static inline void put(float *to, const __m256 (&x)[8]) {
    for (int v = 0; v < 8; ++v) _mm256_storeu_ps(to + v * 8, x[v]);
  }
};

struct WidenedBf16 : Widened {
  struct Pair {
    __m256 even, odd;
  };
  using T = uint16_t;
  using Right = Pair;
  static constexpr int PAIR = 2, LEFT_STEP = 2, COLUMNS = 1;

  static inline const float *factor(const float *x) { return x; }
  static inline Pair load(const uint16_t *at) {
    const __m256i both = _mm256_loadu_si256(reinterpret_cast<const __m256i *>(at));
    return {_mm256_castsi256_ps(_mm256_slli_epi32(both, 16)),
            _mm256_castsi256_ps(_mm256_and_si256(both, _mm256_set1_epi32(int(0xffff0000u))))};
  }
  static inline __m256 dot(__m256 sum, Pair right, const float *left) {
    return _mm256_fmadd_ps(right.odd, _mm256_set1_ps(left[1]),
                           _mm256_fmadd_ps(right.even, _mm256_set1_ps(left[0]), sum));
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
  using Right = __m256;
  static constexpr int PAIR = 1, LEFT_STEP = 1, COLUMNS = 2;

  static inline __m256 load(const uint16_t *at) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i *>(at)));
  }
  static inline __m256 dot(__m256 sum, __m256 right, __m256 left) { return _mm256_fmadd_ps(right, left, sum); }
  static inline void take(const uint16_t *from, float *to, int64_t count) {
    for (int64_t i = 0; i < count; ++i) to[i] = from_f16(from[i]);
  }
  static inline void narrow(const float *from, uint16_t *to, int64_t count) {
    for (int64_t i = 0; i < count; ++i) to[i] = to_f16(from[i]);
  }
};

struct PlainF32 : Widened {
  using T = float;
  using Right = __m256;
  static constexpr int PAIR = 1, LEFT_STEP = 1, COLUMNS = 2;

  static inline __m256 load(const float *at) { return _mm256_loadu_ps(at); }
  static inline __m256 dot(__m256 sum, __m256 right, __m256 left) { return _mm256_fmadd_ps(right, left, sum); }
  static inline void take(const float *from, float *to, int64_t count) { std::memcpy(to, from, size_t(count) * 4); }
  static inline void narrow(const float *from, float *to, int64_t count) { std::memcpy(to, from, size_t(count) * 4); }
};

}  // namespace

const Kernels kernels_avx2 = kernels<Vectors, WidenedBf16, WidenedF16, PlainF32>();

}  // namespace quire::attention
