#include "kernels.h"

namespace quire {
const RowKernels rows_avx512 = kernels;
}
