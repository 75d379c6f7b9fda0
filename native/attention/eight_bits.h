// Numbers of eight bits: fp8 is e4m3 (four bits of exponent, three of fraction, no infinity, 448 the greatest), int8 a
// whole number from -127 to 127 times a scale. Rounded to the nearest and to even; what is too large becomes the
// greatest; no number stays none.
//
// Loops that a compiler turns into vectors, compiled once for each instruction set.
#pragma once

#include "attention/attention.h"
#include "numbers.h"

namespace quire::attention {
namespace {

inline float from_fp8(uint8_t x) {
  const uint32_t rest = x & 0x7f;
  if (rest == 0x7f) return float_of(0x7fc00000);
  // Scaling by a power of two makes subnormal numbers come out right.
  const float size = float_of(rest << 20) * float_of(0x7b800000);
  return x & 0x80 ? -size : size;
}

inline uint8_t to_fp8(float x) {
  const uint32_t bits = bits_of(x), sign = bits >> 24 & 0x80, rest = bits & 0x7fffffff;
  const uint32_t normal = ((rest + 0x7ffff + (rest >> 20 & 1)) >> 20) - (120 << 3);
  // Below 2^-6 an addition does the rounding: one unit of the sum is the smallest fp8, 2^-9.
  const uint32_t small = bits_of(float_of(rest) + 16384.0f) - 0x46800000;
  uint32_t code = rest < 0x3c800000 ? small : normal;
  code = rest > 0x43e00000 ? 0x7e : code;
  code = rest > 0x7f800000 ? 0x7f : code;
  return uint8_t(sign | code);
}

struct FromBf16 {
  using T = uint16_t;
  static inline float widened(uint16_t x) { return from_bf16(x); }
};
struct FromF16 {
  using T = uint16_t;
  static inline float widened(uint16_t x) { return from_f16(x); }
};
struct FromF32 {
  using T = float;
  static inline float widened(float x) { return x; }
};

template <typename From>
void fp8_of(const void *from, uint8_t *to, int64_t count) {
  const auto *numbers = static_cast<const typename From::T *>(from);
  for (int64_t i = 0; i < count; ++i) to[i] = to_fp8(From::widened(numbers[i]));
}

// The scale: the greatest size becomes 127. None where one of the numbers is none or not finite; sizes below 1e-30
// become zero, since their reciprocals are not finite.
template <typename From>
float int8_of(const void *from, uint8_t *to, int64_t count) {
  const auto *numbers = static_cast<const typename From::T *>(from);
  uint32_t greatest = 0;  // as bits: their order is that of sizes, with infinity and no number above all
  for (int64_t i = 0; i < count; ++i) {
    const uint32_t size = bits_of(From::widened(numbers[i])) & 0x7fffffff;
    greatest = size > greatest ? size : greatest;
  }
  const bool is_finite = greatest < 0x7f800000;
  const float size = float_of(greatest), factor = is_finite && size >= 1e-30f ? 127.0f / size : 0.0f;
  // Adding 1.5 * 2^23 rounds; the lowest eight bits are then the whole number.
  for (int64_t i = 0; i < count; ++i)
    to[i] = uint8_t(bits_of((is_finite ? From::widened(numbers[i]) : 0.0f) * factor + 12582912.0f));
  if (!is_finite) return float_of(0x7fc00000);
  return size >= 1e-30f ? size / 127.0f : 0.0f;
}

}  // namespace
}  // namespace quire::attention
