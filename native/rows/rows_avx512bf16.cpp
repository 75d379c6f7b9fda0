#include "kernels.h"

namespace quire {
const RowKernels rows_avx512bf16 = kernels;
}
