#include "rounding/kernel.h"

namespace quire {
const RoundRows rounding_avx2 = round_rows;
}
