#include "kernels.h"

namespace quire {
const RowKernels rows_avx2 = kernels;
}
