// GEMM with AVX-512: twelve rows of two vectors, their factors broadcast from memory.
#pragma once

#include <immintrin.h>

#include "gemm/tiles.h"

namespace quire {
namespace {

struct Vectors {
  using Vector = __m512;
  static constexpr int WIDTH = 16;

  static inline Vector zero() { return _mm512_setzero_ps(); }
  static inline Vector broadcast(float x) { return _mm512_set1_ps(x); }
  static inline Vector multiply_add(Vector a, Vector b, Vector c) { return _mm512_fmadd_ps(a, b, c); }
  static inline void store(float *to, Vector x) { _mm512_storeu_ps(to, x); }
  static inline void to_bf16(const float *from, uint16_t *to) {
    for (int c = 0; c < PANEL; c += WIDTH) {
      const __m512 x = _mm512_loadu_ps(from + c);
      const __m512i bits = _mm512_castps_si512(x);
      const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
      const __m512i sum = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
      const __m512i rounded = _mm512_mask_mov_epi32(_mm512_srli_epi32(sum, 16), _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q),
                                                    _mm512_set1_epi32(0x7fc0));
      _mm256_storeu_si256(reinterpret_cast<__m256i *>(to + c), _mm512_cvtepi32_epi16(rounded));
    }
  }
  static inline void to_f16(const float *from, uint16_t *to) {
    for (int c = 0; c < PANEL; c += WIDTH)
      _mm256_storeu_si256(reinterpret_cast<__m256i *>(to + c),
                          _mm512_cvtps_ph(_mm512_loadu_ps(from + c), _MM_FROUND_TO_NEAREST_INT));
  }
};

struct PairsOfBF16 {
  static constexpr int STEP = 2, SIZE = 2;
  static constexpr Type TYPE = Type::BF16;
  static inline __m512 load(const char *at, int s, int v) {
    const __m512i pairs = _mm512_loadu_si512(at + v * 64);
    return _mm512_castsi512_ps(s == 0 ? _mm512_slli_epi32(pairs, 16)
                                      : _mm512_and_si512(pairs, _mm512_set1_epi32(int(0xffff0000u))));
  }
};

struct F16 {
  static constexpr int STEP = 1, SIZE = 2;
  static constexpr Type TYPE = Type::F16;
  static inline __m512 load(const char *at, int, int v) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i *>(at + v * 32)));
  }
};

struct F32 {
  static constexpr int STEP = 1, SIZE = 4;
  static constexpr Type TYPE = Type::F32;
  static inline __m512 load(const char *at, int, int v) {
    return _mm512_loadu_ps(reinterpret_cast<const float *>(at) + v * 16);
  }
};

constexpr int ROWS = 12;

inline void widen_bf16(const uint16_t *from, float *to, int64_t count) {
  for (int64_t i = 0; i < count; ++i) to[i] = from_bf16(from[i]);
}

inline void widen_f16(const uint16_t *from, float *to, int64_t count) {
  int64_t i = 0;
  for (; i + 16 <= count; i += 16)
    _mm512_storeu_ps(to + i, _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i *>(from + i))));
  for (; i < count; ++i) to[i] = from_f16(from[i]);
}

}  // namespace
}  // namespace quire
