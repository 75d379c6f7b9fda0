// Vectors that every 64-bit Arm has.
#pragma once

#include <arm_neon.h>

#include "attention/widened.h"

namespace quire::attention {
namespace {

struct Vectors {
  using F = float32x4_t;
  static constexpr int LANES = 4, COLUMNS = 4, PAIR_COLUMNS = 2;

  static inline F zero() { return vdupq_n_f32(0.0f); }
  static inline F set(float x) { return vdupq_n_f32(x); }
  static inline F load(const float *at) { return vld1q_f32(at); }
  static inline void store(float *at, F x) { vst1q_f32(at, x); }
  static inline F add(F a, F b) { return vaddq_f32(a, b); }
  static inline F sub(F a, F b) { return vsubq_f32(a, b); }
  static inline F mul(F a, F b) { return vmulq_f32(a, b); }
  static inline F div(F a, F b) { return vdivq_f32(a, b); }
  static inline F max(F a, F b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
  static inline F at_most(F x, float limit) {
    return vbslq_f32(vcgtq_f32(x, set(limit)), set(limit), x);
  }
  static inline F fma(F a, F b, F c) { return vfmaq_f32(c, a, b); }
  static inline float max_lane(F x) { return vmaxvq_f32(x); }
  static inline float sum_lanes(F x) { return vaddvq_f32(x); }

  // Lanes begin <= i < end as they are, the others minus infinity.
  static inline F keep(F x, int64_t begin, int64_t end) {
    const int32x4_t lane = {0, 1, 2, 3};
    const uint32x4_t kept = vandq_u32(vcgeq_s32(lane, vdupq_n_s32(int(begin))), vcltq_s32(lane, vdupq_n_s32(int(end))));
    return vbslq_f32(kept, x, set(MINUS_INFINITY));
  }

  // 2^x of an x up to 128, to 2e-7; exactly 1 at 0, 0 below -126, none for none.
  static inline F exp2(F x) {
    // Adding and taking away 1.5 * 2^23 rounds to a whole number n; with 127 more the sum ends in n's exponent.
    const F sum = add(x, set(12583039.0f)), f = sub(x, sub(sum, set(12583039.0f)));
    // 2^f, -1/2 <= f <= 1/2, to 9e-8 and exact at 0: a minimax of the relative error.
    F p = set(0.0013264727f);
    p = fma(p, f, set(0.009671513f));
    p = fma(p, f, set(0.055507336f));
    p = fma(p, f, set(0.24022242f));
    p = fma(p, f, set(0.693147f));
    p = fma(p, f, set(1.0f));
    const F power = vreinterpretq_f32_s32(vshlq_n_s32(vreinterpretq_s32_f32(sum), 23));
    return vbslq_f32(vcltq_f32(x, set(-126.0f)), zero(), mul(p, power));
  }

  static inline F load_f16(const uint16_t *at) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(at))); }
  static inline void store_f16(uint16_t *at, F x) { vst1_u16(at, vreinterpret_u16_f16(vcvt_f16_f32(x))); }
  static inline Two<Vectors> load_bf16(const uint16_t *at);
  static inline Two<Vectors> load_fp8(const uint8_t *at);
  static inline Two<Vectors> load_int8(const uint8_t *at);
};

inline Two<Vectors> Vectors::load_bf16(const uint16_t *at) {
  const uint32x4_t pairs = vreinterpretq_u32_u16(vld1q_u16(at));
  return {vreinterpretq_f32_u32(vshlq_n_u32(pairs, 16)),
          vreinterpretq_f32_u32(vandq_u32(pairs, vdupq_n_u32(0xffff0000u)))};
}

// The codes in the low bytes as float32: float16 with another bias, where all ones are no number.
inline float32x4_t widened_fp8(uint16x4_t codes) {
  const uint16x4_t size = vand_u16(codes, vdup_n_u16(0x7f));
  const uint16x4_t none = vand_u16(vceq_u16(size, vdup_n_u16(0x7f)), vdup_n_u16(0x7e00));
  const uint16x4_t sign = vand_u16(vshl_n_u16(codes, 8), vdup_n_u16(0x8000));
  const uint16x4_t bits = vorr_u16(vorr_u16(vshl_n_u16(size, 7), none), sign);
  return vmulq_n_f32(vcvt_f32_f16(vreinterpret_f16_u16(bits)), 256.0f);
}

inline Two<Vectors> Vectors::load_fp8(const uint8_t *at) {
  const uint16x4_t both = vreinterpret_u16_u8(vld1_u8(at));
  return {widened_fp8(both), widened_fp8(vshr_n_u16(both, 8))};
}

inline Two<Vectors> Vectors::load_int8(const uint8_t *at) {
  const int32x4_t both = vmovl_s16(vreinterpret_s16_u8(vld1_u8(at)));
  return {vcvtq_f32_s32(vshrq_n_s32(vshlq_n_s32(both, 24), 24)), vcvtq_f32_s32(vshrq_n_s32(both, 8))};
}

}  // namespace
}  // namespace quire::attention
