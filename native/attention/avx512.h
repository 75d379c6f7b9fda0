// Vectors of AVX-512 and types that are widened to float32.
#pragma once

#include <immintrin.h>

#include "attention/tile.h"
#include "numbers.h"

namespace quire::attention {
namespace {

struct Vectors {
  using F = __m512;
  static constexpr int LANES = 16;

  static inline F zero() { return _mm512_setzero_ps(); }
  static inline F set(float x) { return _mm512_set1_ps(x); }
  static inline F load(const float *at) { return _mm512_loadu_ps(at); }
  static inline void store(float *at, F x) { _mm512_storeu_ps(at, x); }
  static inline F add(F a, F b) { return _mm512_add_ps(a, b); }
  static inline F sub(F a, F b) { return _mm512_sub_ps(a, b); }
  static inline F mul(F a, F b) { return _mm512_mul_ps(a, b); }
  static inline F div(F a, F b) { return _mm512_div_ps(a, b); }
  static inline F max(F a, F b) { return _mm512_max_ps(a, b); }
  static inline F fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
  static inline float first(F x) { return _mm512_cvtss_f32(x); }
  static inline float max_lane(F x) { return _mm512_reduce_max_ps(x); }
  static inline float sum_lanes(F x) { return _mm512_reduce_add_ps(x); }

  // Lanes begin <= i < end as they are, the others minus infinity.
  static inline F keep(F x, int64_t begin, int64_t end) {
    const __mmask16 kept = __mmask16((uint32_t(1) << end) - 1) & __mmask16(~((uint32_t(1) << begin) - 1));
    return _mm512_mask_blend_ps(kept, set(MINUS_INFINITY), x);
  }

  // 2^x to 1e-7; exactly 1 at 0 and 0 at minus infinity. Cephes' polynomial for 2^f, -1/2 <= f <= 1/2.
  static inline F exp2(F x) {
    const F f = _mm512_reduce_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    F p = set(1.535336188319500e-4f);
    p = fma(p, f, set(1.339887440266574e-3f));
    p = fma(p, f, set(9.618437357674640e-3f));
    p = fma(p, f, set(5.550332471162809e-2f));
    p = fma(p, f, set(2.402264791363012e-1f));
    p = fma(p, f, set(6.931472028550421e-1f));
    p = fma(p, f, set(1.0f));
    return _mm512_scalef_ps(p, sub(x, f));
  }
};

// What types have in common whose left side is float32.
struct Widened {
  using Left = float;
  static inline __m512 factor(const float *x) { return _mm512_set1_ps(*x); }
  static inline void clear(float *to, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) to[i] = 0.0f;
  }
  static inline void put(float *to, const __m512 (&x)[4]) {
    for (int v = 0; v < 4; ++v) _mm512_storeu_ps(to + v * 16, x[v]);
  }
};

struct WidenedBf16 : Widened {
  struct Pair {
    __m512 even, odd;
  };
  using T = uint16_t;
  using Right = Pair;
  static constexpr int PAIR = 2, LEFT_STEP = 2, COLUMNS = 2;

  static inline const float *factor(const float *x) { return x; }
  static inline Pair load(const uint16_t *at) {
    typedef uint32_t Bits __attribute__((vector_size(64)));
    Bits both;
    std::memcpy(&both, at, sizeof both);
    return {__m512(both << 16), __m512(both & 0xffff0000u)};
  }
  static inline __m512 dot(__m512 sum, Pair right, const float *left) {
    return _mm512_fmadd_ps(right.odd, _mm512_set1_ps(left[1]),
                           _mm512_fmadd_ps(right.even, _mm512_set1_ps(left[0]), sum));
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
  using Right = __m512;
  static constexpr int PAIR = 1, LEFT_STEP = 1, COLUMNS = 4;

  static inline __m512 load(const uint16_t *at) {
    // With a mask of ones: the plain one warns of a register that is not set (gcc 12).
    return _mm512_maskz_cvtph_ps(0xffff, _mm256_loadu_si256(reinterpret_cast<const __m256i *>(at)));
  }
  static inline __m512 dot(__m512 sum, __m512 right, __m512 left) { return _mm512_fmadd_ps(right, left, sum); }
  static inline void take(const uint16_t *from, float *to, int64_t count) {
    for (int64_t i = 0; i < count; ++i) to[i] = from_f16(from[i]);
  }
  static inline void narrow(const float *from, uint16_t *to, int64_t count) {
    int64_t i = 0;
    for (; i + 16 <= count; i += 16)
      _mm256_storeu_si256(reinterpret_cast<__m256i *>(to + i),
                          _mm512_maskz_cvtps_ph(0xffff, _mm512_loadu_ps(from + i), _MM_FROUND_TO_NEAREST_INT));
    for (; i < count; ++i) to[i] = to_f16(from[i]);
  }
};

struct PlainF32 : Widened {
  using T = float;
  using Right = __m512;
  static constexpr int PAIR = 1, LEFT_STEP = 1, COLUMNS = 4;

  static inline __m512 load(const float *at) { return _mm512_loadu_ps(at); }
  static inline __m512 dot(__m512 sum, __m512 right, __m512 left) { return _mm512_fmadd_ps(right, left, sum); }
  static inline void take(const float *from, float *to, int64_t count) { std::memcpy(to, from, size_t(count) * 4); }
  static inline void narrow(const float *from, float *to, int64_t count) { std::memcpy(to, from, size_t(count) * 4); }
};

}  // namespace
}  // namespace quire::attention
