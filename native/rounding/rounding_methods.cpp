// Python's view of rounding.
#include "arguments.h"
#include "isa.h"
#include "parallel.h"
#include "rounding/rounding.h"

namespace {

using namespace quire;

constexpr int64_t LEAST_NUMBERS = 1 << 14;  // for each thread

RoundRows kernel() {
#if defined(__x86_64__)
  static const RoundRows *const tables[] = {&rounding_portable, &rounding_avx2, &rounding_avx512};
#else
  static const RoundRows *const tables[] = {&rounding_portable};
#endif
  return *kernels_for(tables);
}

void nearest_codes(Arguments &arguments) {
  Rounding rounding = {};
  rounding.bits = arguments.integer();
  rounding.group = arguments.integer();
  rounding.has_zeros = arguments.integer() != 0;
  rounding.clippings = arguments.pointer<float>();
  rounding.num_clippings = arguments.integer();
  const int64_t rows = arguments.integer();
  rounding.depth = arguments.integer();
  rounding.x = arguments.pointer<float>();
  rounding.x_stride = arguments.integer();
  rounding.codes = arguments.pointer<uint8_t>();
  rounding.codes_stride = arguments.integer();
  rounding.scales = arguments.pointer<float>();
  rounding.zeros = arguments.pointer<uint8_t>();
  const WithoutLock unlocked(arguments, double(rows) * double(rounding.depth));
  const RoundRows round = kernel();
  in_parallel(rows, LEAST_NUMBERS / rounding.depth + 1,
              [&](int64_t begin, int64_t end) { round(rounding, begin, end); });
}

constexpr Kernel NEAREST_CODES = {"nearest_codes", "iiiiiiiiiiiii", nearest_codes};

PyMethodDef methods[] = {
    method<NEAREST_CODES>("nearest_codes(bits, group, has_zeros, clippings, num_clippings, rows, depth, x, x_stride, codes, "
                          "codes_stride, scales, zeros)"),
    {nullptr, nullptr, 0, nullptr}};

}  // namespace

PyMethodDef *rounding_methods() { return methods; }
