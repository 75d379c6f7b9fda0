// Weights to codes: each group's scale, and zero point where there is one, by least squared error (quire/ops/rounding.py
// says how, and is the reference).
#pragma once

#include <cstdint>

namespace quire {

struct Rounding {
  int64_t bits;   // 8 or 4
  int64_t group;  // neighbours that share a scale
  bool has_zeros;
  const float *clippings;  // parts of a group's range that are tried, for 4 bits
  int64_t num_clippings;
  int64_t depth;
  const float *x;  // [rows][depth], rows `x_stride` apart
  int64_t x_stride;
  uint8_t *codes;  // [rows][depth], rows `codes_stride` apart; int8 for 8 bits
  int64_t codes_stride;
  float *scales;   // [rows][groups]
  uint8_t *zeros;  // [rows][groups], where the form has zero points
};

using RoundRows = void (*)(const Rounding &, int64_t first, int64_t last);

extern const RoundRows rounding_portable;
#if defined(__x86_64__)
extern const RoundRows rounding_avx2, rounding_avx512;
#endif

}  // namespace quire
