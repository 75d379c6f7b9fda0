// Attention with AVX-512 and its bfloat16 dot product: queries and weights are bfloat16 too.
#include "attention/avx512.h"

namespace quire::attention {
namespace {

inline __m512bh as_pairs(__m512i x) {
  __m512bh pairs;
  __builtin_memcpy(&pairs, &x, sizeof pairs);
  return pairs;
}

struct PairsOfBf16 {
  using T = uint16_t;
  using Left = uint32_t;
  using Right = __m512bh;
  static constexpr int PAIR = 2, LEFT_STEP = 1, COLUMNS = 4;

  static inline __m512bh load(const uint16_t *at) { return as_pairs(_mm512_loadu_si512(at)); }
  static inline __m512bh factor(const uint32_t *x) { return as_pairs(_mm512_set1_epi32(int(*x))); }
  static inline __m512 dot(__m512 sum, __m512bh right, __m512bh left) { return _mm512_dpbf16_ps(sum, right, left); }

  static inline void take(const uint16_t *from, uint32_t *to, int64_t count) {
    std::memcpy(to, from, size_t(count) * 2);
  }
  static inline void clear(uint32_t *to, int64_t begin, int64_t end) {
    std::memset(reinterpret_cast<char *>(to) + begin * 2, 0, size_t(end - begin) * 2);
  }
  static inline void put(uint32_t *to, const __m512 (&x)[4]) {
    for (int v = 0; v < 2; ++v) {
      const __m512bh both = _mm512_cvtne2ps_pbh(x[2 * v + 1], x[2 * v]);
      std::memcpy(to + v * 16, &both, sizeof both);
    }
  }
  static inline void narrow(const float *from, uint16_t *to, int64_t count) {
    int64_t i = 0;
    for (; i + 16 <= count; i += 16) {
      const __m256bh narrowed = _mm512_cvtneps_pbh(_mm512_loadu_ps(from + i));
      std::memcpy(to + i, &narrowed, sizeof narrowed);
    }
    for (; i < count; ++i) to[i] = to_bf16(from[i]);
  }
};

}  // namespace

const Kernels kernels_avx512bf16 = kernels<Vectors, PairsOfBf16, WidenedF16, PlainF32>();

}  // namespace quire::attention
