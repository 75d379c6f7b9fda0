// Quantised products with AVX-512: twelve rows of two vectors.
#pragma once

#include "gemm/avx512.h"
#include "quantized/inputs.h"
#include "quantized/tiles.h"

namespace quire {
namespace {

// Sums of whole numbers have the type that they are made of: of __m512i, which is made of longer ones, gcc keeps copies.
typedef int32_t Sixteen __attribute__((vector_size(64)));

struct Lanes {
  using Floats = __m512;
  using Ints = Sixteen;
  static constexpr int WIDTH = 16;

  static inline Floats load(const float *at) { return _mm512_loadu_ps(at); }
  static inline void store(float *to, Floats x) { _mm512_storeu_ps(to, x); }
  static inline Floats broadcast(float x) { return _mm512_set1_ps(x); }
  static inline Floats add(Floats a, Floats b) { return _mm512_add_ps(a, b); }
  static inline Floats multiply(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
  static inline Floats multiply_add(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }

  static inline Ints load(const char *at) { return Ints(_mm512_loadu_si512(at)); }
  // Signs and sizes of 8-bit quads as signed numbers, the four of an output in one lane.
  static inline Ints signed_quads(Ints x) {
    const __m512i places = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15));
    const __m512i codes = _mm512_shuffle_epi8(__m512i(x), places), sizes = _mm512_and_si512(codes, _mm512_set1_epi8(0x7f));
    return Ints(_mm512_mask_sub_epi8(sizes, _mm512_movepi8_mask(codes), _mm512_setzero_si512(), sizes));
  }
  static inline Ints bytes(const char *at) {
    return Ints(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i *>(at))));
  }
  static inline Ints whole(int32_t x) { return Ints(_mm512_set1_epi32(x)); }
  static inline Ints add_pairs(Ints sum, Ints a, Ints b) { return sum + Ints(_mm512_madd_epi16(__m512i(a), __m512i(b))); }
  static inline Floats to_float(Ints x) { return _mm512_cvtepi32_ps(__m512i(x)); }
};

}  // namespace
}  // namespace quire
