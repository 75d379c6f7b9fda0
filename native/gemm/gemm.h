// y = x W^T + bias with weights packed once: what a call is, and what each set of instructions provides.
//
// Packed weights: panels of 32 outputs. bfloat16 stands as [panel][depth / 2][32][2] (pairs of neighbours in depth side
// by side, as the dot-product instruction wants them), other types as [panel][depth][32]; what is missing to whole panels
// and pairs is zero.
//
// Every sum runs over the whole depth in one chain, from first to last. So an output is the same to the last bit whatever
// other rows there are, wherever its row stands and however many threads compute.
#pragma once

#include <cstdint>

namespace quire {

constexpr int PANEL = 32;

enum class Type : int { BF16 = 0, F16 = 1, F32 = 2 };

struct GemmCall {
  const void *x;       // rows of `depth` numbers, x_stride apart (in numbers); float32 where the kernel reads that
  int64_t x_stride;
  const void *packed;
  const void *bias;    // nullptr, or `columns` numbers of type `type`
  void *y;             // rows of `columns` numbers of type `y_type`, y_stride apart (in numbers)
  int64_t y_stride;
  int64_t columns;
  int64_t depth;
  Type type;           // of x as it was given, of the weights and of the bias
  Type y_type;
};

// Rows and panels that one thread computes.
struct GemmPart {
  int64_t first_row, last_row, first_panel, last_panel;
};

using GemmKernel = void (*)(const GemmCall &, const GemmPart &);

struct GemmKernels {
  GemmKernel bf16;
  bool bf16_reads_bf16;  // x as it is; otherwise widened to float32, rows padded to an even depth
  GemmKernel f16;        // x widened to float32
  GemmKernel f32;
  // `count` numbers to float32.
  void (*widen_bf16)(const uint16_t *from, float *to, int64_t count);
  void (*widen_f16)(const uint16_t *from, float *to, int64_t count);
};

extern const GemmKernels gemm_portable;
extern const GemmKernels gemm_avx2, gemm_avx512, gemm_avx512bf16;  // of x86-64
extern const GemmKernels gemm_neon, gemm_neonbf16;                 // of 64-bit Arm

inline int64_t panels_of(int64_t columns) { return (columns + PANEL - 1) / PANEL; }

// Numbers in a packed panel.
inline int64_t panel_size(Type type, int64_t depth) {
  return (type == Type::BF16 ? (depth + 1) / 2 * 2 : depth) * PANEL;
}

}  // namespace quire
