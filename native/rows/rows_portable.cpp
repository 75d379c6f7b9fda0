#include "kernels.h"

namespace quire {
const RowKernels rows_portable = kernels;
}
