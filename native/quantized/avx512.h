// Quantised products with AVX-512: twelve rows of two vectors.
#pragma once

#include "gemm/avx512.h"
#include "quantized/inputs.h"
#include "quantized/tiles.h"

namespace quire {
namespace {

struct Lanes {
  using Floats = __m512;
  using Ints = __m512i;
  static constexpr int WIDTH = 16;

  static inline Floats load(const float *at) { return _mm512_loadu_ps(at); }
  static inline void store(float *to, Floats x) { _mm512_storeu_ps(to, x); }
  static inline Floats broadcast(float x) { return _mm512_set1_ps(x); }
  static inline Floats add(Floats a, Floats b) { return _mm512_add_ps(a, b); }
  static inline Floats subtract(Floats a, Floats b) { return _mm512_sub_ps(a, b); }
  static inline Floats multiply(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
  static inline Floats multiply_add(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }

  static inline Ints load(const char *at) { return _mm512_loadu_si512(at); }
  static inline Ints bytes(const char *at) {
    return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i *>(at)));
  }
  static inline Ints whole(int32_t x) { return _mm512_set1_epi32(x); }
  static inline Ints multiply(Ints a, Ints b) { return _mm512_mullo_epi32(a, b); }
  static inline Ints part(Ints x, int shift, int mask) {
    return _mm512_and_si512(_mm512_srli_epi32(x, unsigned(shift)), _mm512_set1_epi32(mask));
  }
  static inline Ints add_pairs(Ints sum, Ints a, Ints b) { return _mm512_add_epi32(sum, _mm512_madd_epi16(a, b)); }
  static inline Floats to_float(Ints x) { return _mm512_cvtepi32_ps(x); }
};

}  // namespace
}  // namespace quire
