// Attention with AVX2, FMA and F16C: every type is widened to float32.
#include <immintrin.h>

#include "attention/widened.h"

namespace quire::attention {
namespace {

struct Vectors {
  using F = __m256;
  static constexpr int LANES = 8, COLUMNS = 2, PAIR_COLUMNS = 1;

  static inline F zero() { return _mm256_setzero_ps(); }
  static inline F set(float x) { return _mm256_set1_ps(x); }
  static inline F load(const float *at) { return _mm256_loadu_ps(at); }
  static inline void store(float *at, F x) { _mm256_storeu_ps(at, x); }
  static inline F add(F a, F b) { return _mm256_add_ps(a, b); }
  static inline F sub(F a, F b) { return _mm256_sub_ps(a, b); }
  static inline F mul(F a, F b) { return _mm256_mul_ps(a, b); }
  static inline F div(F a, F b) { return _mm256_div_ps(a, b); }
  // The second operand of max and min is the one that comes out when either is no number.
  static inline F max(F a, F b) { return _mm256_max_ps(a, b); }
  static inline F at_most(F x, float limit) { return _mm256_min_ps(set(limit), x); }
  static inline F fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
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

  // 2^x of an x up to 128, to 2e-7; exactly 1 at 0, 0 below -126, none for none.
  static inline F exp2(F x) {
    // Adding and taking away 1.5 * 2^23 rounds to a whole number n; with 127 more the sum ends in n's exponent.
    const F sum = add(x, set(12583039.0f)), f = sub(x, sub(sum, set(12583039.0f)));
    // 2^f, -1/2 <= f <= 1/2, to 9e-8 and exact at 0: a minimax of the relative error.
    F p = set(0.0013264727f);
    p = fma(p, f, set(0.009671513f));
    p = fma(p, f, set(0.055507336f));
    p = fma(p, f, set(0.24022242f));
    p = fma(p, f, set(0.693147f));
    p = fma(p, f, set(1.0f));
    const F power = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(sum), 23));
    return _mm256_andnot_ps(_mm256_cmp_ps(x, set(-126.0f), _CMP_LT_OQ), mul(p, power));
  }

  static inline F load_f16(const uint16_t *at) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i *>(at)));
  }
  static inline void store_f16(uint16_t *at, F x) {
    _mm_storeu_si128(reinterpret_cast<__m128i *>(at), _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
  }
  static inline Two<Vectors> load_bf16(const uint16_t *at);
  static inline Two<Vectors> load_fp8(const uint8_t *at);
  static inline Two<Vectors> load_int8(const uint8_t *at);
};

inline Two<Vectors> Vectors::load_bf16(const uint16_t *at) {
  const __m256i both = _mm256_loadu_si256(reinterpret_cast<const __m256i *>(at));
  return {_mm256_castsi256_ps(_mm256_slli_epi32(both, 16)),
          _mm256_castsi256_ps(_mm256_and_si256(both, _mm256_set1_epi32(int(0xffff0000u))))};
}

// The codes in the low bytes as float32: float16 with another bias, where all ones are no number.
inline __m256 widened_fp8(__m128i codes) {
  const __m128i size = _mm_and_si128(codes, _mm_set1_epi16(0x7f));
  const __m128i none = _mm_and_si128(_mm_cmpeq_epi16(size, _mm_set1_epi16(0x7f)), _mm_set1_epi16(0x7e00));
  const __m128i sign = _mm_and_si128(_mm_slli_epi16(codes, 8), _mm_set1_epi16(int16_t(0x8000)));
  const __m128i bits = _mm_or_si128(_mm_or_si128(_mm_slli_epi16(size, 7), none), sign);
  return _mm256_mul_ps(_mm256_cvtph_ps(bits), _mm256_set1_ps(256.0f));
}

inline Two<Vectors> Vectors::load_fp8(const uint8_t *at) {
  const __m128i both = _mm_loadu_si128(reinterpret_cast<const __m128i *>(at));
  return {widened_fp8(both), widened_fp8(_mm_srli_epi16(both, 8))};
}

inline Two<Vectors> Vectors::load_int8(const uint8_t *at) {
  const __m256i both = _mm256_cvtepi16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i *>(at)));
  return {_mm256_cvtepi32_ps(_mm256_srai_epi32(_mm256_slli_epi32(both, 24), 24)),
          _mm256_cvtepi32_ps(_mm256_srai_epi32(both, 8))};
}

}  // namespace

const Kernels kernels_avx2 = kernels_widened<Vectors>();

}  // namespace quire::attention
