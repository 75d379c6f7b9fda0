// bfloat16 and float16 from and to float32, one number at a time, to the nearest and to even.
#pragma once

#include <cstdint>
#include <cstring>

namespace quire {

inline uint32_t bits_of(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  return bits;
}

inline float float_of(uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, 4);
  return x;
}

inline float from_bf16(uint16_t x) { return float_of(uint32_t(x) << 16); }

inline uint16_t to_bf16(float x) {
  const uint32_t bits = bits_of(x);
  const uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  return x == x ? uint16_t(rounded) : uint16_t(0x7fc0);
}

inline float from_f16(uint16_t x) {
  const uint32_t sign = uint32_t(x & 0x8000) << 16, rest = x & 0x7fff;
  if (rest >= 0x7c00) return float_of(sign | 0x7f800000 | (rest & 0x3ff) << 13);
  // Scaling by a power of two makes subnormal numbers come out right.
  return float_of(sign | bits_of(float_of(rest << 13) * float_of(0x77800000)));
}

inline uint16_t to_f16(float x) {
  const uint32_t bits = bits_of(x), sign = (bits >> 16) & 0x8000;
  const uint32_t rest = bits & 0x7fffffff;
  if (rest > 0x7f800000) return uint16_t(sign | 0x7e00);
  if (rest >= 0x477ff000) return uint16_t(sign | 0x7c00);
  if (rest < 0x38800000)  // subnormal: let an addition do the rounding
    return uint16_t(sign | (bits_of(float_of(rest) + 0.5f) - 0x3f000000));
  return uint16_t(sign | ((rest - 0x38000000 + 0xfff + ((rest >> 13) & 1)) >> 13));
}

}  // namespace quire
