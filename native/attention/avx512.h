// Vectors of AVX-512.
#pragma once

#include <immintrin.h>

#include "attention/widened.h"

namespace quire::attention {
namespace {

struct Vectors {
  using F = __m512;
  static constexpr int LANES = 16, COLUMNS = 4, PAIR_COLUMNS = 2;

  static inline F zero() { return _mm512_setzero_ps(); }
  static inline F set(float x) { return _mm512_set1_ps(x); }
  static inline F load(const float *at) { return _mm512_loadu_ps(at); }
  static inline void store(float *at, F x) { _mm512_storeu_ps(at, x); }
  static inline F add(F a, F b) { return _mm512_add_ps(a, b); }
  static inline F sub(F a, F b) { return _mm512_sub_ps(a, b); }
  static inline F mul(F a, F b) { return _mm512_mul_ps(a, b); }
  static inline F div(F a, F b) { return _mm512_div_ps(a, b); }
  // The second operand of max and min is the one that comes out when either is no number.
  static inline F max(F a, F b) { return _mm512_max_ps(a, b); }
  static inline F at_most(F x, float limit) { return _mm512_min_ps(set(limit), x); }
  static inline F fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
  static inline float max_lane(F x) { return _mm512_reduce_max_ps(x); }
  static inline float sum_lanes(F x) { return _mm512_reduce_add_ps(x); }

  // Lanes begin <= i < end as they are, the others minus infinity.
  static inline F keep(F x, int64_t begin, int64_t end) {
    const __mmask16 kept = __mmask16((uint32_t(1) << end) - 1) & __mmask16(~((uint32_t(1) << begin) - 1));
    return _mm512_mask_blend_ps(kept, set(MINUS_INFINITY), x);
  }

  // 2^x of an x up to 128, to 2e-7; exactly 1 at 0, 0 below -126, none for none. Additions and shifts instead of the
  // instructions for rounding and scaling: they leave the units for products alone.
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
    const F power = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(sum), 23));
    return _mm512_maskz_mul_ps(_mm512_cmp_ps_mask(x, set(-126.0f), _CMP_NLT_UQ), p, power);
  }

  static inline F load_f16(const uint16_t *at) {
    // With a mask of ones: the plain one warns of a register that is not set (gcc 12).
    return _mm512_maskz_cvtph_ps(0xffff, _mm256_loadu_si256(reinterpret_cast<const __m256i *>(at)));
  }
  static inline void store_f16(uint16_t *at, F x) {
    _mm256_storeu_si256(reinterpret_cast<__m256i *>(at),
                        _mm512_maskz_cvtps_ph(0xffff, x, _MM_FROUND_TO_NEAREST_INT));
  }
  static inline Two<Vectors> load_bf16(const uint16_t *at);
  static inline Two<Vectors> load_fp8(const uint8_t *at);
  static inline Two<Vectors> load_int8(const uint8_t *at);
};

inline Two<Vectors> Vectors::load_bf16(const uint16_t *at) {
  typedef uint32_t Bits __attribute__((vector_size(64)));
  Bits both;
  std::memcpy(&both, at, sizeof both);
  return {__m512(both << 16), __m512(both & 0xffff0000u)};
}

// The codes in the low bytes as float32: float16 with another bias, where all ones are no number.
inline __m512 widened_fp8(__m256i codes) {
  const __m256i size = _mm256_and_si256(codes, _mm256_set1_epi16(0x7f));
  const __m256i none = _mm256_and_si256(_mm256_cmpeq_epi16(size, _mm256_set1_epi16(0x7f)), _mm256_set1_epi16(0x7e00));
  const __m256i sign = _mm256_and_si256(_mm256_slli_epi16(codes, 8), _mm256_set1_epi16(int16_t(0x8000)));
  const __m256i bits = _mm256_or_si256(_mm256_or_si256(_mm256_slli_epi16(size, 7), none), sign);
  return _mm512_mul_ps(_mm512_maskz_cvtph_ps(0xffff, bits), _mm512_set1_ps(256.0f));
}

inline Two<Vectors> Vectors::load_fp8(const uint8_t *at) {
  const __m256i both = _mm256_loadu_si256(reinterpret_cast<const __m256i *>(at));
  return {widened_fp8(both), widened_fp8(_mm256_srli_epi16(both, 8))};
}

inline Two<Vectors> Vectors::load_int8(const uint8_t *at) {
  const __m512i both =
      _mm512_maskz_cvtepi16_epi32(0xffff, _mm256_loadu_si256(reinterpret_cast<const __m256i *>(at)));
  return {_mm512_maskz_cvtepi32_ps(0xffff, _mm512_srai_epi32(_mm512_slli_epi32(both, 24), 24)),
          _mm512_maskz_cvtepi32_ps(0xffff, _mm512_srai_epi32(both, 8))};
}

}  // namespace
}  // namespace quire::attention
