// Quantised products with AVX2 and FMA: three rows of four vectors fill the sixteen registers.
#include <immintrin.h>

#include "quantized/inputs.h"
#include "quantized/tiles.h"

namespace quire {
namespace {

typedef int32_t Eight __attribute__((vector_size(32)));

struct Lanes {
  using Floats = __m256;
  using Ints = Eight;  // and not __m256i: see avx512.h
  static constexpr int WIDTH = 8;

  static inline Floats load(const float *at) { return _mm256_loadu_ps(at); }
  static inline void store(float *to, Floats x) { _mm256_storeu_ps(to, x); }
  static inline Floats broadcast(float x) { return _mm256_set1_ps(x); }
  static inline Floats add(Floats a, Floats b) { return _mm256_add_ps(a, b); }
  static inline Floats multiply(Floats a, Floats b) { return _mm256_mul_ps(a, b); }
  static inline Floats multiply_add(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a, b, c); }

  static inline Ints load(const char *at) { return Ints(_mm256_loadu_si256(reinterpret_cast<const __m256i *>(at))); }
  static inline Ints signed_quads(Ints x) {
    const __m256i places =
        _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15));
    const __m256i codes = _mm256_shuffle_epi8(__m256i(x), places);
    return Ints(_mm256_sign_epi8(_mm256_and_si256(codes, _mm256_set1_epi8(0x7f)), codes));
  }
  static inline Ints bytes(const char *at) {
    return Ints(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i *>(at))));
  }
  static inline Ints whole(int32_t x) { return Ints(_mm256_set1_epi32(x)); }
  static inline Ints add_pairs(Ints sum, Ints a, Ints b) { return sum + Ints(_mm256_madd_epi16(__m256i(a), __m256i(b))); }
  static inline Floats to_float(Ints x) { return _mm256_cvtepi32_ps(__m256i(x)); }

  static inline void to_bf16(const float *from, uint16_t *to) {
    for (int c = 0; c < PANEL; ++c) to[c] = quire::to_bf16(from[c]);
  }
  static inline void to_f16(const float *from, uint16_t *to) {
    for (int c = 0; c < PANEL; c += WIDTH)
      _mm_storeu_si128(reinterpret_cast<__m128i *>(to + c),
                       _mm256_cvtps_ph(_mm256_loadu_ps(from + c), _MM_FROUND_TO_NEAREST_INT));
  }
};

constexpr int ROWS = 3;

void widen(const Inputs &inputs, int64_t first, int64_t last) { widen_rows(gemm_avx2, inputs, first, last); }
void quantise(const Inputs &inputs, int64_t first, int64_t last) {
  quantise_rows(gemm_avx2, round_all, inputs, first, last);
}

}  // namespace

const QuantizedKernels quantized_avx2 = {
    product<WidenedArithmetic<Lanes>, Lanes, ROWS>(widen),
    product<PairedArithmetic<Lanes>, Lanes, ROWS>(quantise),
    {nullptr, nullptr, nullptr, 0},
};

}  // namespace quire
