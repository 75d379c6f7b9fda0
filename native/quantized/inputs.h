// x made ready: widened to float32, or rounded to 8 bits with one scale a row; the sums of its groups.
//
// Included by the file of each set of instructions and compiled with its flags; so everything is in an unnamed namespace.
// The loops are written so that a compiler turns them into vectors; their results do not depend on which.
#pragma once

#include <cstring>

#include "numbers.h"
#include "quantized/quantized.h"

namespace quire {
namespace {

// Numbers that are widened at a time: they stay in the first-level cache.
constexpr int64_t CHUNK = 512;

// `count` numbers of a row from `first` on in float32: where they stand, or in `chunk`.
inline const float *floats_of(const GemmKernels &widening, const Inputs &inputs, int64_t row, int64_t first, int64_t count,
                              float *chunk) {
  const int64_t at = row * inputs.x_stride + first;
  if (inputs.type == Type::F32) return static_cast<const float *>(inputs.x) + at;
  const uint16_t *from = static_cast<const uint16_t *>(inputs.x) + at;
  (inputs.type == Type::BF16 ? widening.widen_bf16 : widening.widen_f16)(from, chunk, count);
  return chunk;
}

// Calls body(numbers, first, count) for all of a row.
template <typename Body>
inline void in_chunks(const GemmKernels &widening, const Inputs &inputs, int64_t row, const Body &body) {
  float chunk[CHUNK];
  for (int64_t first = 0; first < inputs.depth; first += CHUNK) {
    const int64_t count = inputs.depth - first < CHUNK ? inputs.depth - first : CHUNK;
    body(floats_of(widening, inputs, row, first, count, chunk), first, count);
  }
}

// The bits of the largest magnitude: ordered as numbers are, with what is no number above all.
inline int32_t largest(const float *x, int64_t count, int32_t so_far) {
  for (int64_t k = 0; k < count; ++k) {
    int32_t bits;
    std::memcpy(&bits, x + k, 4);
    bits &= 0x7fffffff;
    so_far = bits > so_far ? bits : so_far;
  }
  return so_far;
}

// To the nearest and to even: adding 1.5 * 2^23 leaves the whole number in the lowest bits.
inline int32_t rounded(float x) {
  const float sum = x + 12582912.0f;
  int32_t bits;
  std::memcpy(&bits, &sum, 4);
  return bits - 0x4b400000;
}

inline void round_all(const float *x, float inverse, int64_t count, int16_t *codes) {
  for (int64_t k = 0; k < count; ++k) codes[k] = int16_t(rounded(x[k] * inverse));
}

template <typename Code>
inline void sum_groups(const Inputs &inputs, const Code *codes, int32_t *sums) {
  const int32_t factor = inputs.form.has_zeros ? -1 : -int32_t(inputs.form.middle());
  const int64_t groups = inputs.form.groups(inputs.depth);
  for (int64_t group = 0; group < groups; ++group) {
    // Whole quads: their order does not matter, and what is missing is nought.
    const int64_t length = (inputs.form.length(inputs.depth, group) + QUAD - 1) / QUAD * QUAD;
    const Code *from = codes + group * inputs.form.group;
    int32_t sum = 0;
    for (int64_t k = 0; k < length; ++k) sum += from[k];
    sums[group] = sum * factor;
  }
}

// `round` writes numbers by a factor as the kernels read them, padded with nought to whole quads.
template <typename Code>
inline void quantise_rows(const GemmKernels &widening, void (*round)(const float *, float, int64_t, Code *),
                          const Inputs &inputs, int64_t first_row, int64_t last_row) {
  constexpr float LEAST_AMAX = 0x1p-100f;
  for (int64_t row = first_row; row < last_row; ++row) {
    Code *codes = static_cast<Code *>(inputs.rows) + row * inputs.stride;
    int32_t bits = 0;
    in_chunks(widening, inputs, row, [&](const float *x, int64_t, int64_t count) { bits = largest(x, count, bits); });
    const float amax = float_of(uint32_t(bits));
    std::memset(codes + inputs.depth / QUAD * QUAD, 0, size_t(inputs.stride - inputs.depth / QUAD * QUAD) * sizeof(Code));
    inputs.row_scales[row] = amax <= LEAST_AMAX ? 0.0f : amax / 127.0f;
    if (amax <= LEAST_AMAX || bits >= 0x7f800000) {
      std::memset(codes, 0, size_t(inputs.depth) * sizeof(Code));
    } else {
      const float inverse = 127.0f / amax;
      in_chunks(widening, inputs, row,
                [&](const float *x, int64_t first, int64_t count) { round(x, inverse, count, codes + first); });
    }
    sum_groups(inputs, codes, static_cast<int32_t *>(inputs.group_sums) + row * inputs.form.groups(inputs.depth));
  }
}

// Minus the sum of each group, in sixteen chains whatever the processor has.
inline void sum_groups(const GemmKernels &widening, const Inputs &inputs, int64_t row) {
  float *sums = static_cast<float *>(inputs.group_sums) + row * inputs.form.groups(inputs.depth);
  for (int64_t first = 0; first < inputs.depth; first += inputs.form.group) {
    float chains[16] = {};
    const int64_t length = inputs.depth - first < inputs.form.group ? inputs.depth - first : inputs.form.group;
    for (int64_t at = 0; at < length; at += CHUNK) {
      float chunk[CHUNK];
      const int64_t count = length - at < CHUNK ? length - at : CHUNK;
      const float *x = floats_of(widening, inputs, row, first + at, count, chunk);
      int64_t k = 0;
      for (; k + 16 <= count; k += 16)
        for (int64_t i = 0; i < 16; ++i) chains[i] += x[k + i];
      for (; k < count; ++k) chains[k % 16] += x[k];
    }
    for (int half = 8; half > 0; half /= 2)
      for (int i = 0; i < half; ++i) chains[i] += chains[i + half];
    *sums++ = -chains[0];
  }
}

inline void widen_rows(const GemmKernels &widening, const Inputs &inputs, int64_t first_row, int64_t last_row) {
  for (int64_t row = first_row; row < last_row; ++row) {
    if (inputs.group_sums != nullptr) sum_groups(widening, inputs, row);
    if (inputs.rows == nullptr) continue;
    float *to = static_cast<float *>(inputs.rows) + row * inputs.stride;
    in_chunks(widening, inputs, row, [&](const float *x, int64_t first, int64_t count) {
      std::memcpy(to + first, x, size_t(count) * sizeof(float));
    });
    for (int64_t k = inputs.depth; k < inputs.stride; ++k) to[k] = 0;
  }
}

}  // namespace
}  // namespace quire
