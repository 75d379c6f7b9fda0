// Quantised products with AVX-512 alone.
#include "quantized/avx512.h"

namespace quire {
namespace {

void widen(const Inputs &inputs, int64_t first, int64_t last) { widen_rows(gemm_avx512, inputs, first, last); }
void quantise(const Inputs &inputs, int64_t first, int64_t last) {
  quantise_rows(gemm_avx512, round_all, inputs, first, last);
}

}  // namespace

const QuantizedKernels quantized_avx512 = {
    product<WidenedArithmetic<Lanes>, Vectors, ROWS>(widen),
    product<PairedArithmetic<Lanes>, Vectors, ROWS>(quantise),
    {nullptr, nullptr, nullptr, 0},
};

}  // namespace quire
