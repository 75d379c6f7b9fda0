// GEMM in vectors of four that any compiler maps to what the processor has.
#include "gemm/tiles.h"

#if defined(__ARM_NEON) && defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace quire {
namespace {

typedef float Four __attribute__((vector_size(16), aligned(4), may_alias));
typedef uint32_t FourBits __attribute__((vector_size(16), aligned(4), may_alias));

struct Vectors {
  using Vector = Four;
  static constexpr int WIDTH = 4;

  static inline Vector zero() { return Four{0, 0, 0, 0}; }
  static inline Vector broadcast(float x) { return Four{x, x, x, x}; }
  static inline Vector multiply_add(Vector a, Vector b, Vector c) {
#if defined(__ARM_NEON) && defined(__aarch64__)
    return (Four)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#else
    return a * b + c;
#endif
  }
  static inline void store(float *to, Vector x) { *reinterpret_cast<Four *>(to) = x; }
  static inline void to_bf16(const float *from, uint16_t *to) {
    for (int c = 0; c < PANEL; ++c) to[c] = quire::to_bf16(from[c]);
  }
  static inline void to_f16(const float *from, uint16_t *to) {
    for (int c = 0; c < PANEL; ++c) to[c] = quire::to_f16(from[c]);
  }
};

struct PairsOfBF16 {
  static constexpr int STEP = 2, SIZE = 2;
  static constexpr Type TYPE = Type::BF16;
  static inline Four load(const char *at, int s, int v) {
    const FourBits pairs = *reinterpret_cast<const FourBits *>(at + v * 16);
    return (Four)(s == 0 ? pairs << 16 : pairs & 0xffff0000u);
  }
};

struct F16 {
  static constexpr int STEP = 1, SIZE = 2;
  static constexpr Type TYPE = Type::F16;
  static inline Four load(const char *at, int, int v) {
    typedef uint16_t FourShorts __attribute__((vector_size(8), aligned(2), may_alias));
    const FourBits half = __builtin_convertvector(*(reinterpret_cast<const FourShorts *>(at) + v), FourBits);
    const FourBits rest = half & 0x7fff;
    // As numbers.h has it for a single one: a power of two puts the exponent right, subnormal numbers included.
    const FourBits number = (FourBits)((Four)(rest << 13) * float_of(0x77800000));
    return (Four)(number | ((half & 0x8000) << 16) | ((FourBits)(rest >= 0x7c00) & 0x7f800000));
  }
};

struct F32 {
  static constexpr int STEP = 1, SIZE = 4;
  static constexpr Type TYPE = Type::F32;
  static inline Four load(const char *at, int, int v) { return *reinterpret_cast<const Four *>(at + v * 16); }
};

constexpr int ROWS = 2;

void widen_bf16(const uint16_t *from, float *to, int64_t count) {
  for (int64_t i = 0; i < count; ++i) to[i] = from_bf16(from[i]);
}

void widen_f16(const uint16_t *from, float *to, int64_t count) {
  for (int64_t i = 0; i < count; ++i) to[i] = from_f16(from[i]);
}

}  // namespace

const GemmKernels gemm_portable = {
    gemm_part<WideningKernel<Vectors, PairsOfBF16, ROWS>, Vectors>,
    false,
    gemm_part<WideningKernel<Vectors, F16, ROWS>, Vectors>,
    gemm_part<WideningKernel<Vectors, F32, ROWS>, Vectors>,
    widen_bf16,
    widen_f16,
};

}  // namespace quire
