// GEMM with Arm's bfloat16 dot product: pairs of x broadcast, pairs of weights as they stand.
//
// The instruction adds two products to a sum in float32. How it rounds in between may differ from one kind of Arm to
// another (FPCR.EBF), never from row to row. BFMMLA, twice the products at a time, wants rows of four where panels have
// pairs.
#include "gemm/neon.h"

namespace quire {
namespace {

inline bfloat16x8_t as_bf16(uint32x4_t x) {
  bfloat16x8_t pairs;
  __builtin_memcpy(&pairs, &x, sizeof pairs);
  return pairs;
}

struct DotKernel {
  static constexpr int MAX_ROWS = ROWS, VECTORS = PANEL / Vectors::WIDTH;

  static int64_t panel_bytes(const GemmCall &call) { return panel_size(Type::BF16, call.depth) * 2; }

  // One pair of depth; `factor(r)` is row r's pair.
  template <int R, typename Factor>
  static inline void multiply(const char *weights, float32x4_t (&sum)[R][VECTORS], const Factor &factor) {
    bfloat16x8_t pair[R];
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) pair[r] = as_bf16(vdupq_n_u32(factor(r)));
#pragma GCC unroll 8
    for (int v = 0; v < VECTORS; ++v) {
      const bfloat16x8_t weight = as_bf16(vld1q_u32(reinterpret_cast<const uint32_t *>(weights + v * 16)));
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) sum[r][v] = vbfdotq_f32(sum[r][v], weight, pair[r]);
    }
  }

  template <int R>
  static inline void tile(const GemmCall &call, int64_t row, const char *weights, float (*sums)[PANEL],
                          Prefetch prefetch) {
    const int64_t stride = call.x_stride * 2, pairs = call.depth / 2;
    RowPointers<R> x(static_cast<const char *>(call.x) + row * stride, stride);
    float32x4_t sum[R][VECTORS];
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
      for (int v = 0; v < VECTORS; ++v) sum[r][v] = Vectors::zero();
    for (int64_t turn = pairs / 4; turn > 0; --turn, x.advance(16), weights += 512) {
      prefetch.run();
#pragma GCC unroll 4
      for (int pair = 0; pair < 4; ++pair)
        multiply<R>(weights + pair * 128, sum, [&](int r) { return x.template read<uint32_t>(r, pair * 4); });
    }
    for (int64_t rest = pairs % 4; rest > 0; --rest, x.advance(4), weights += 128)
      multiply<R>(weights, sum, [&](int r) { return x.template read<uint32_t>(r, 0); });
    if (call.depth % 2 != 0)  // the last number stands alone: nothing behind a row is read
      multiply<R>(weights, sum, [&](int r) { return uint32_t(x.template read<uint16_t>(r, 0)); });
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
      for (int v = 0; v < VECTORS; ++v) Vectors::store(sums[r] + v * Vectors::WIDTH, sum[r][v]);
  }
};

}  // namespace

const GemmKernels gemm_neonbf16 = {
    gemm_part<DotKernel, Vectors>,
    true,
    gemm_part<WideningKernel<Vectors, F16, ROWS>, Vectors>,
    gemm_part<WideningKernel<Vectors, F32, ROWS>, Vectors>,
    widen_bf16,
    widen_f16,
};

}  // namespace quire
