// Quantised products with AVX2 and FMA: three rows of four vectors fill the sixteen registers.
#include <immintrin.h>

#include "quantized/inputs.h"
#include "quantized/tiles.h"

namespace quire {
namespace {

struct Lanes {
  using Floats = __m256;
  using Ints = __m256i;
  static constexpr int WIDTH = 8;

  static inline Floats load(const float *at) { return _mm256_loadu_ps(at); }
  static inline void store(float *to, Floats x) { _mm256_storeu_ps(to, x); }
  static inline Floats broadcast(float x) { return _mm256_set1_ps(x); }
  static inline Floats add(Floats a, Floats b) { return _mm256_add_ps(a, b); }
  static inline Floats subtract(Floats a, Floats b) { return _mm256_sub_ps(a, b); }
  static inline Floats multiply(Floats a, Floats b) { return _mm256_mul_ps(a, b); }
  static inline Floats multiply_add(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a, b, c); }

  static inline Ints load(const char *at) { return _mm256_loadu_si256(reinterpret_cast<const __m256i *>(at)); }
  static inline Ints bytes(const char *at) {
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i *>(at)));
  }
  static inline Ints whole(int32_t x) { return _mm256_set1_epi32(x); }
  static inline Ints multiply(Ints a, Ints b) { return _mm256_mullo_epi32(a, b); }
  static inline Ints part(Ints x, int shift, int mask) {
    return _mm256_and_si256(_mm256_srli_epi32(x, shift), _mm256_set1_epi32(mask));
  }
  static inline Ints add_pairs(Ints sum, Ints a, Ints b) { return _mm256_add_epi32(sum, _mm256_madd_epi16(a, b)); }
  static inline Floats to_float(Ints x) { return _mm256_cvtepi32_ps(x); }

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
  quantise_rows<int16_t>(gemm_avx2, inputs, first, last);
}

}  // namespace

const QuantizedKernels quantized_avx2 = {
    product<WidenedArithmetic<Lanes>, Lanes, ROWS>(widen),
    product<PairedArithmetic<Lanes>, Lanes, ROWS>(quantise),
    {nullptr, nullptr, nullptr, 0},
};

}  // namespace quire
