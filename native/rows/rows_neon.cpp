#define QUIRE_NEON
#include "kernels.h"

namespace quire {
const RowKernels rows_neon = kernels;
}
