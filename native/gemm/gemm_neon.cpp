// GEMM on any 64-bit Arm: bfloat16 weights are widened in registers.
#include "gemm/neon.h"

namespace quire {

const GemmKernels gemm_neon = {
    gemm_part<WideningKernel<Vectors, PairsOfBF16, ROWS>, Vectors>,
    false,
    gemm_part<WideningKernel<Vectors, F16, ROWS>, Vectors>,
    gemm_part<WideningKernel<Vectors, F32, ROWS>, Vectors>,
    widen_bf16,
    widen_f16,
};

}  // namespace quire
