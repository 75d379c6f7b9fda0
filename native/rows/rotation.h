// Cosine and sine of the angles of rotary positions.
//
// The angle is a float32 product; from there on all is double precision with sums that no instruction set may fuse, so
// that every set gives the same bits: the exact values, rounded once to float32 but for very rare ties.
#pragma once

#include "../parallel.h"
#include "rows.h"
#include "simd.h"

namespace {

// For angles of at most 2^20 or so, either sign.
QUIRE_INLINE void turn(double angle, float *cosine, float *sine) {
  // The nearest multiple of pi / 2 is taken off in two parts, the first of 33 bits: its product is exact.
  const double shifted = angle * 0.63661977236758134308 + 0x1.8p52, whole = shifted - 0x1.8p52;
  const double rest = (angle - whole * 1.57079632673412561417) - whole * 6.07710050650619224932e-11;
  const double square = rest * rest;
  // Taylor's series: below 1e-11 for a rest of at most pi / 4.
  double s = -1.0 / 39916800, c = 1.0 / 479001600;
  s = s * square + 1.0 / 362880;
  s = s * square - 1.0 / 5040;
  s = s * square + 1.0 / 120;
  s = s * square - 1.0 / 6;
  s = s * square * rest + rest;
  c = c * square - 1.0 / 3628800;
  c = c * square + 1.0 / 40320;
  c = c * square - 1.0 / 720;
  c = c * square + 1.0 / 24;
  c = c * square - 0.5;
  c = c * square + 1.0;
  const int64_t quarter = bit_cast<int64_t>(shifted) & 3;
  const double turned_c = quarter & 1 ? s : c, turned_s = quarter & 1 ? c : s;
  *cosine = float((quarter + 1) & 2 ? -turned_c : turned_c);
  *sine = float(quarter & 2 ? -turned_s : turned_s);
}

void rotation(const quire::Rotation &asked) {
  const int64_t count = asked.frequencies_count;
  quire::in_parallel(asked.tokens, 1 + (1 << 10) / count, [&](int64_t begin, int64_t end) {
    for (int64_t token = begin; token < end; ++token) {
      const float position = float(asked.positions[token]);
      float *__restrict cosine = asked.cosine + token * count, *__restrict sine = asked.sine + token * count;
      for (int64_t i = 0; i < count; ++i) {
        const float angle = position * asked.frequencies[i];
        float c, s;
        turn(double(angle), &c, &s);
        cosine[i] = c * asked.factor;
        sine[i] = s * asked.factor;
      }
    }
  });
}

}  // namespace
