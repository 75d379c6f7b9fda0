#include "rounding/kernel.h"

namespace quire {
const RoundRows rounding_portable = round_rows;
}
