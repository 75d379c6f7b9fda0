// Quantised products in vectors of four that any compiler maps to what the processor has.
#include "quantized/inputs.h"
#include "quantized/tiles.h"

namespace quire {
namespace {

typedef float Four __attribute__((vector_size(16), aligned(4), may_alias));
typedef int32_t FourWhole __attribute__((vector_size(16), aligned(1), may_alias));

struct Lanes {
  using Floats = Four;
  using Ints = FourWhole;
  static constexpr int WIDTH = 4;

  static inline Floats load(const float *at) { return *reinterpret_cast<const Four *>(at); }
  static inline void store(float *to, Floats x) { *reinterpret_cast<Four *>(to) = x; }
  static inline Floats broadcast(float x) { return Four{x, x, x, x}; }
  static inline Floats add(Floats a, Floats b) { return a + b; }
  static inline Floats multiply(Floats a, Floats b) { return a * b; }
  static inline Floats multiply_add(Floats a, Floats b, Floats c) { return a * b + c; }

  static inline Ints load(const char *at) { return *reinterpret_cast<const FourWhole *>(at); }
  static inline Ints signed_quads(Ints x) {
    typedef int16_t EightShorts __attribute__((vector_size(16), aligned(1), may_alias));
    typedef int8_t Bytes __attribute__((vector_size(16), aligned(1), may_alias));
    const EightShorts pairs = (EightShorts)x;
    const Bytes codes = (Bytes)EightShorts{pairs[0], pairs[4], pairs[1], pairs[5], pairs[2], pairs[6], pairs[3], pairs[7]};
    const Bytes negative = codes < 0;
    return (Ints)(((codes & 0x7f) ^ negative) - negative);
  }
  static inline Ints bytes(const char *at) {
    return FourWhole{uint8_t(at[0]), uint8_t(at[1]), uint8_t(at[2]), uint8_t(at[3])};
  }
  static inline Ints whole(int32_t x) { return FourWhole{x, x, x, x}; }
  static inline Ints add_pairs(Ints sum, Ints a, Ints b) {
    return sum + (a & 0xffff) * ((b << 16) >> 16) + (a >> 16) * (b >> 16);
  }
  static inline Floats to_float(Ints x) { return __builtin_convertvector(x, Four); }

  static inline void to_bf16(const float *from, uint16_t *to) {
    for (int c = 0; c < PANEL; ++c) to[c] = quire::to_bf16(from[c]);
  }
  static inline void to_f16(const float *from, uint16_t *to) {
    for (int c = 0; c < PANEL; ++c) to[c] = quire::to_f16(from[c]);
  }
};

constexpr int ROWS = 2;

void widen(const Inputs &inputs, int64_t first, int64_t last) { widen_rows(gemm_portable, inputs, first, last); }
void quantise(const Inputs &inputs, int64_t first, int64_t last) {
  quantise_rows(gemm_portable, round_all, inputs, first, last);
}

}  // namespace

const QuantizedKernels quantized_portable = {
    product<WidenedArithmetic<Lanes>, Lanes, ROWS>(widen),
    product<PairedArithmetic<Lanes>, Lanes, ROWS>(quantise),
    {nullptr, nullptr, nullptr, 0},
};

}  // namespace quire
