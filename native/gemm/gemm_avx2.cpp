// GEMM with AVX2, FMA and F16C: three rows of four vectors fill the sixteen registers.
#include <immintrin.h>

#include "gemm/tiles.h"

namespace quire {
namespace {

struct Vectors {
  using Vector = __m256;
  static constexpr int WIDTH = 8;

  static inline Vector zero() { return _mm256_setzero_ps(); }
  static inline Vector broadcast(float x) { return _mm256_set1_ps(x); }
  static inline Vector multiply_add(Vector a, Vector b, Vector c) { return _mm256_fmadd_ps(a, b, c); }
  static inline void store(float *to, Vector x) { _mm256_storeu_ps(to, x); }
  static inline void to_bf16(const float *from, uint16_t *to) {
    for (int c = 0; c < PANEL; ++c) to[c] = quire::to_bf16(from[c]);
  }
  static inline void to_f16(const float *from, uint16_t *to) {
    for (int c = 0; c < PANEL; c += WIDTH)
      _mm_storeu_si128(reinterpret_cast<__m128i *>(to + c),
                       _mm256_cvtps_ph(_mm256_loadu_ps(from + c), _MM_FROUND_TO_NEAREST_INT));
  }
};

struct PairsOfBF16 {
  static constexpr int STEP = 2, SIZE = 2;
  static constexpr Type TYPE = Type::BF16;
  static inline __m256 load(const char *at, int s, int v) {
    const __m256i pairs = _mm256_loadu_si256(reinterpret_cast<const __m256i *>(at + v * 32));
    return _mm256_castsi256_ps(s == 0 ? _mm256_slli_epi32(pairs, 16)
                                      : _mm256_and_si256(pairs, _mm256_set1_epi32(int(0xffff0000u))));
  }
};

struct F16 {
  static constexpr int STEP = 1, SIZE = 2;
  static constexpr Type TYPE = Type::F16;
  static inline __m256 load(const char *at, int, int v) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i *>(at + v * 16)));
  }
};

struct F32 {
  static constexpr int STEP = 1, SIZE = 4;
  static constexpr Type TYPE = Type::F32;
  static inline __m256 load(const char *at, int, int v) {
    return _mm256_loadu_ps(reinterpret_cast<const float *>(at) + v * 8);
  }
};

constexpr int ROWS = 3;

void widen_bf16(const uint16_t *from, float *to, int64_t count) {
  for (int64_t i = 0; i < count; ++i) to[i] = from_bf16(from[i]);
}

void widen_f16(const uint16_t *from, float *to, int64_t count) {
  int64_t i = 0;
  for (; i + 8 <= count; i += 8)
    _mm256_storeu_ps(to + i, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i *>(from + i))));
  for (; i < count; ++i) to[i] = from_f16(from[i]);
}

}  // namespace

const GemmKernels gemm_avx2 = {
    gemm_part<WideningKernel<Vectors, PairsOfBF16, ROWS>, Vectors>,
    false,
    gemm_part<WideningKernel<Vectors, F16, ROWS>, Vectors>,
    gemm_part<WideningKernel<Vectors, F32, ROWS>, Vectors>,
    widen_bf16,
    widen_f16,
};

}  // namespace quire
