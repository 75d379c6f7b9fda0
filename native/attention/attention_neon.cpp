// Attention on any 64-bit Arm: every type is widened to float32.
#include "attention/neon.h"

namespace quire::attention {
namespace {

struct WidenedBf16 : Widened {
  struct Pair {
    float32x4_t even, odd;
  };
  using T = uint16_t;
  using Right = Pair;
  static constexpr int PAIR = 2, LEFT_STEP = 2, COLUMNS = 2;

  static inline const float *factor(const float *x) { return x; }
  static inline Pair load(const uint16_t *at) {
    const uint32x4_t pairs = vreinterpretq_u32_u16(vld1q_u16(at));
    return {vreinterpretq_f32_u32(vshlq_n_u32(pairs, 16)),
            vreinterpretq_f32_u32(vandq_u32(pairs, vdupq_n_u32(0xffff0000u)))};
  }
  static inline float32x4_t dot(float32x4_t sum, Pair right, const float *left) {
    return vfmaq_n_f32(vfmaq_n_f32(sum, right.even, left[0]), right.odd, left[1]);
  }
  static inline void take(const uint16_t *from, float *to, int64_t count) {
    for (int64_t i = 0; i < count; ++i) to[i] = from_bf16(from[i]);
  }
  static inline void narrow(const float *from, uint16_t *to, int64_t count) {
    for (int64_t i = 0; i < count; ++i) to[i] = to_bf16(from[i]);
  }
};

}  // namespace

const Kernels kernels_neon = kernels<Vectors, WidenedBf16, WidenedF16, PlainF32>();

}  // namespace quire::attention
