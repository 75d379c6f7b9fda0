// Attention with Arm's bfloat16 dot product: queries and weights of bfloat16 keys are bfloat16 too.
#include "attention/neon.h"

namespace quire::attention {
namespace {

inline bfloat16x8_t as_pairs(uint32x4_t x) {
  bfloat16x8_t pairs;
  __builtin_memcpy(&pairs, &x, sizeof pairs);
  return pairs;
}

inline bfloat16x8_t narrowed(float32x4_t low, float32x4_t high) {
  return vcvtq_high_bf16_f32(vcvtq_low_bf16_f32(low), high);
}

struct PairsOfBf16 {
  using T = uint16_t;
  using Left = uint32_t;
  using Right = bfloat16x8_t;
  using Wide = PairsOfBf16;
  static constexpr bool HAS_SCALES = false;
  static constexpr int PAIR = 2, LEFT_STEP = 1, COLUMNS = 4;

  static inline bfloat16x8_t load(const uint16_t *at) { return as_pairs(vreinterpretq_u32_u16(vld1q_u16(at))); }
  static inline bfloat16x8_t factor(const uint32_t *x) { return as_pairs(vdupq_n_u32(*x)); }
  static inline float32x4_t dot(float32x4_t sum, bfloat16x8_t right, bfloat16x8_t left) {
    return vbfdotq_f32(sum, right, left);
  }
  static inline void widen(bfloat16x8_t x, uint16_t *to, int64_t i, int64_t) { std::memcpy(to + i * 2, &x, sizeof x); }

  static inline void clear(uint32_t *to, int64_t begin, int64_t end) {
    std::memset(reinterpret_cast<char *>(to) + begin * 2, 0, size_t(end - begin) * 2);
  }
  static inline void put(uint32_t *to, const float32x4_t *x, int vectors) {
    for (int v = 0; v < vectors; v += 2) {
      const bfloat16x8_t both = narrowed(x[v], x[v + 1]);
      std::memcpy(to + v * 2, &both, sizeof both);
    }
  }
};

struct QueriesAsTheyAre : QueriesBf16 {
  using QueriesBf16::take;
  static inline void take(const uint16_t *from, uint32_t *to, int64_t count) {
    std::memcpy(to, from, size_t(count) * 2);
  }
  static inline void narrow(const float *from, uint16_t *to, int64_t count) {
    int64_t i = 0;
    for (; i + 8 <= count; i += 8) {
      const bfloat16x8_t both = quire::attention::narrowed(vld1q_f32(from + i), vld1q_f32(from + i + 4));
      std::memcpy(to + i, &both, sizeof both);
    }
    for (; i < count; ++i) to[i] = to_bf16(from[i]);
  }
};

}  // namespace

const Kernels kernels_neonbf16 =
    kernels<Vectors, PairsOfBf16, WidenedFp8<Vectors>, WidenedInt8<Vectors>, QueriesAsTheyAre>();

}  // namespace quire::attention
