#define QUIRE_NEON
#include "kernels.h"

namespace quire {
const RowKernels rows_neonbf16 = kernels;
}
