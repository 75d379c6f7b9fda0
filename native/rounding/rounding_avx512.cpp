#include "rounding/kernel.h"

namespace quire {
const RoundRows rounding_avx512 = round_rows;
}
