// Attention with the vectors that every 64-bit Arm has: float32 arithmetic, and types that are widened to it.
#pragma once

#include <arm_neon.h>

#include "attention/tile.h"
#include "numbers.h"

namespace quire::attention {
namespace {

struct Vectors {
  using F = float32x4_t;
  static constexpr int LANES = 4;

  static inline F zero() { return vdupq_n_f32(0.0f); }
  static inline F set(float x) { return vdupq_n_f32(x); }
  static inline F load(const float *at) { return vld1q_f32(at); }
  static inline void store(float *at, F x) { vst1q_f32(at, x); }
  static inline F add(F a, F b) { return vaddq_f32(a, b); }
  static inline F sub(F a, F b) { return vsubq_f32(a, b); }
  static inline F mul(F a, F b) { return vmulq_f32(a, b); }
  static inline F div(F a, F b) { return vdivq_f32(a, b); }
  static inline F max(F a, F b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
  static inline F fma(F a, F b, F c) { return vfmaq_f32(c, a, b); }
  static inline float first(F x) { return vgetq_lane_f32(x, 0); }
  static inline float max_lane(F x) { return vmaxvq_f32(x); }
  static inline float sum_lanes(F x) { return vaddvq_f32(x); }

  // Lanes begin <= i < end as they are, the others minus infinity.
  static inline F keep(F x, int64_t begin, int64_t end) {
    const int32x4_t lane = {0, 1, 2, 3};
    const uint32x4_t kept = vandq_u32(vcgeq_s32(lane, vdupq_n_s32(int(begin))), vcltq_s32(lane, vdupq_n_s32(int(end))));
    return vbslq_f32(kept, x, set(MINUS_INFINITY));
  }

  // 2^x to 1e-7; exactly 1 at 0, 0 below -126, NaN for NaN. Cephes' polynomial for 2^f, -1/2 <= f <= 1/2.
  static inline F exp2(F x) {
    const F inside = vminq_f32(vmaxq_f32(x, set(-127.0f)), set(127.0f));
    const F n = vrndnq_f32(inside), f = sub(inside, n);
    F p = set(1.535336188319500e-4f);
    p = fma(p, f, set(1.339887440266574e-3f));
    p = fma(p, f, set(9.618437357674640e-3f));
    p = fma(p, f, set(5.550332471162809e-2f));
    p = fma(p, f, set(2.402264791363012e-1f));
    p = fma(p, f, set(6.931472028550421e-1f));
    p = fma(p, f, set(1.0f));
    const int32x4_t power = vshlq_n_s32(vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127)), 23);
    return vbslq_f32(vcltq_f32(x, set(-126.0f)), zero(), mul(p, vreinterpretq_f32_s32(power)));
  }
};

// What all widened types have in common: the left side is float32.
struct Widened {
  using Left = float;
  static inline float32x4_t factor(const float *x) { return vdupq_n_f32(*x); }
  static inline void clear(float *to, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) to[i] = 0.0f;
  }
  static inline void put(float *to, const float32x4_t (&x)[16]) {
    for (int v = 0; v < 16; ++v) vst1q_f32(to + v * 4, x[v]);
  }
};

struct WidenedF16 : Widened {
  using T = uint16_t;
  using Right = float32x4_t;
  static constexpr int PAIR = 1, LEFT_STEP = 1, COLUMNS = 4;

  static inline float32x4_t load(const uint16_t *at) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(at))); }
  static inline float32x4_t dot(float32x4_t sum, float32x4_t right, float32x4_t left) {
    return vfmaq_f32(sum, right, left);
  }
  static inline void take(const uint16_t *from, float *to, int64_t count) {
    for (int64_t i = 0; i < count; ++i) to[i] = from_f16(from[i]);
  }
  static inline void narrow(const float *from, uint16_t *to, int64_t count) {
    int64_t i = 0;
    for (; i + 4 <= count; i += 4) vst1_u16(to + i, vreinterpret_u16_f16(vcvt_f16_f32(vld1q_f32(from + i))));
    for (; i < count; ++i) to[i] = to_f16(from[i]);
  }
};

struct PlainF32 : Widened {
  using T = float;
  using Right = float32x4_t;
  static constexpr int PAIR = 1, LEFT_STEP = 1, COLUMNS = 4;

  static inline float32x4_t load(const float *at) { return vld1q_f32(at); }
  static inline float32x4_t dot(float32x4_t sum, float32x4_t right, float32x4_t left) {
    return vfmaq_f32(sum, right, left);
  }
  static inline void take(const float *from, float *to, int64_t count) { std::memcpy(to, from, size_t(count) * 4); }
  static inline void narrow(const float *from, float *to, int64_t count) { std::memcpy(to, from, size_t(count) * 4); }
};

}  // namespace
}  // namespace quire::attention
