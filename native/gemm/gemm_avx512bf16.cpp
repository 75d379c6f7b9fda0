// GEMM with AVX-512 and its bfloat16 dot product: pairs of x broadcast, pairs of weights as they stand.
#include "gemm/avx512.h"

namespace quire {
namespace {

inline __m512bh as_bf16(__m512i x) {
  __m512bh pairs;
  __builtin_memcpy(&pairs, &x, sizeof pairs);
  return pairs;
}

struct DotKernel {
  static constexpr int MAX_ROWS = ROWS;

  static int64_t panel_bytes(const GemmCall &call) { return panel_size(Type::BF16, call.depth) * 2; }

  // One pair of depth; `factor(r)` is row r's pair.
  template <int R, typename Factor>
  static inline void multiply(const char *weights, __m512 (&sum)[R][2], const Factor &factor) {
    const __m512bh left = as_bf16(_mm512_loadu_si512(weights)), right = as_bf16(_mm512_loadu_si512(weights + 64));
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const __m512bh pair = as_bf16(_mm512_set1_epi32(factor(r)));
      sum[r][0] = _mm512_dpbf16_ps(sum[r][0], left, pair);
      sum[r][1] = _mm512_dpbf16_ps(sum[r][1], right, pair);
    }
  }

  template <int R>
  static inline void tile(const GemmCall &call, int64_t row, const char *weights, float (*sums)[PANEL],
                          Prefetch prefetch) {
    const int64_t stride = call.x_stride * 2, pairs = call.depth / 2;
    RowPointers<R> x(static_cast<const char *>(call.x) + row * stride, stride);
    __m512 sum[R][2];
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) sum[r][0] = sum[r][1] = _mm512_setzero_ps();
    for (int64_t turn = pairs / 4; turn > 0; --turn, x.advance(16), weights += 512) {
      prefetch.run();
#pragma GCC unroll 4
      for (int pair = 0; pair < 4; ++pair)
        multiply<R>(weights + pair * 128, sum, [&](int r) { return x.template read<int>(r, pair * 4); });
    }
    for (int64_t rest = pairs % 4; rest > 0; --rest, x.advance(4), weights += 128)
      multiply<R>(weights, sum, [&](int r) { return x.template read<int>(r, 0); });
    if (call.depth % 2 != 0)  // the last number stands alone: nothing behind a row is read
      multiply<R>(weights, sum, [&](int r) { return int(x.template read<uint16_t>(r, 0)); });
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      _mm512_store_ps(sums[r], sum[r][0]);
      _mm512_store_ps(sums[r] + 16, sum[r][1]);
    }
  }
};

}  // namespace

const GemmKernels gemm_avx512bf16 = {
    gemm_part<DotKernel, Vectors>,
    true,
    gemm_part<WideningKernel<Vectors, F16, ROWS>, Vectors>,
    gemm_part<WideningKernel<Vectors, F32, ROWS>, Vectors>,
    widen_bf16,
    widen_f16,
};

}  // namespace quire
