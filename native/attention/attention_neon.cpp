// Attention on any 64-bit Arm: every type is widened to float32.
#include "attention/neon.h"

namespace quire::attention {

const Kernels kernels_neon = kernels_widened<Vectors>();

}  // namespace quire::attention
