// GEMM with the vectors that every 64-bit Arm has: three rows of eight vectors and their factors fill its 32 registers.
#pragma once

#include <arm_neon.h>

#include "gemm/tiles.h"

namespace quire {
namespace {

struct Vectors {
  using Vector = float32x4_t;
  static constexpr int WIDTH = 4;

  static inline Vector zero() { return vdupq_n_f32(0.0f); }
  static inline Vector broadcast(float x) { return vdupq_n_f32(x); }
  static inline Vector multiply_add(Vector a, Vector b, Vector c) { return vfmaq_f32(c, a, b); }
  static inline void store(float *to, Vector x) { vst1q_f32(to, x); }
  static inline void to_bf16(const float *from, uint16_t *to) {
    for (int c = 0; c < PANEL; ++c) to[c] = quire::to_bf16(from[c]);
  }
  static inline void to_f16(const float *from, uint16_t *to) {
    for (int c = 0; c < PANEL; c += WIDTH) vst1_u16(to + c, vreinterpret_u16_f16(vcvt_f16_f32(vld1q_f32(from + c))));
  }
};

struct PairsOfBF16 {
  static constexpr int STEP = 2, SIZE = 2;
  static constexpr Type TYPE = Type::BF16;
  static inline float32x4_t load(const char *at, int s, int v) {
    const uint32x4_t pairs = vld1q_u32(reinterpret_cast<const uint32_t *>(at + v * 16));
    return vreinterpretq_f32_u32(s == 0 ? vshlq_n_u32(pairs, 16) : vandq_u32(pairs, vdupq_n_u32(0xffff0000u)));
  }
};

inline float32x4_t widened_f16(const uint16_t *at) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(at))); }

struct F16 {
  static constexpr int STEP = 1, SIZE = 2;
  static constexpr Type TYPE = Type::F16;
  static inline float32x4_t load(const char *at, int, int v) {
    return widened_f16(reinterpret_cast<const uint16_t *>(at) + v * 4);
  }
};

struct F32 {
  static constexpr int STEP = 1, SIZE = 4;
  static constexpr Type TYPE = Type::F32;
  static inline float32x4_t load(const char *at, int, int v) {
    return vld1q_f32(reinterpret_cast<const float *>(at) + v * 4);
  }
};

constexpr int ROWS = 3;

inline void widen_bf16(const uint16_t *from, float *to, int64_t count) {
  for (int64_t i = 0; i < count; ++i) to[i] = from_bf16(from[i]);
}

inline void widen_f16(const uint16_t *from, float *to, int64_t count) {
  int64_t i = 0;
  for (; i + 4 <= count; i += 4) vst1q_f32(to + i, widened_f16(from + i));
  for (; i < count; ++i) to[i] = from_f16(from[i]);
}

}  // namespace
}  // namespace quire
