// Attention with AVX-512: every type is widened to float32.
#include "attention/avx512.h"

namespace quire::attention {

const Kernels kernels_avx512 = kernels_widened<Vectors>();

}  // namespace quire::attention
