// y = x W^T + bias with quantised weights: how they are packed, what a call is, what each set of instructions provides.
//
// Packed weights: panels of 32 outputs, one behind the other. A panel has, for each group of its depth in turn: 32 scales
// (float32), 32 zero points (bytes, where the form has them), and the codes in quads of depth. A quad is
//   of 4 bits: 64 bytes, [16 outputs][4], the low half of a byte for output j, the high half for output 16 + j;
//   of 8 bits for int8 inputs: 128 bytes, [32 outputs][4], each a code + 128;
//   of 8 bits for other inputs: 128 bytes, [8][2 pairs of depth][4 outputs][2], each the sign and the size of a code: tables
//   look up the size, and the bytes that they give, interleaved within 16, become pairs of neighbours in bfloat16.
// The four of an output stand in the order 0, 2, 1, 3 in the first two: every other byte of a 32-bit lane is then a pair of
// neighbours, ready to be widened to 16 bits; the four together are what the dot product of bytes takes. So a form is laid
// out in one way for every processor. What is missing to whole panels and quads stands for nought.
//
// For int8 inputs a group's sum of code x input is set right by the zero point (128 or 8 where there are none) times the sum
// of the inputs. Each sum runs over its group in one chain, the groups' are added from first to last: an output is the same
// to the last bit whatever other rows there are, wherever its row stands, however many threads compute.
#pragma once

#include "gemm/gemm.h"

namespace quire {

constexpr int QUAD = 4;
// Where the four numbers of a quad stand.
constexpr int QUAD_PLACES[QUAD] = {0, 2, 1, 3};

// How a weight was quantised.
struct Form {
  int64_t bits;       // 8 or 4
  int64_t group;      // neighbours in depth that share a scale, a multiple of 4 unless it is the whole depth
  bool has_zeros;
  bool int8_inputs;

  // The stored code that means nought where there are no zero points.
  int64_t middle() const { return bits == 4 ? 8 : int8_inputs ? 128 : 0; }
  int64_t groups(int64_t depth) const { return (depth + group - 1) / group; }
  // Numbers of a group, the last of which may be shorter.
  int64_t length(int64_t depth, int64_t index) const {
    return depth - index * group < group ? depth - index * group : group;
  }
  int64_t quad_bytes() const { return PANEL * QUAD * bits / 8; }
  // The byte of a quad with the number-th code of an output.
  int64_t place(int64_t output, int64_t number) const {
    if (bits == 4) return output % (PANEL / 2) * QUAD + QUAD_PLACES[number];
    if (int8_inputs) return output * QUAD + QUAD_PLACES[number];
    return output / 4 * 16 + number / 2 * 8 + output % 4 * 2 + number % 2;
  }
  // Scales and zero points of a group in a panel.
  int64_t head_bytes() const { return PANEL * 4 + (has_zeros ? PANEL : 0); }
  int64_t panel_bytes(int64_t depth) const {
    const int64_t all = groups(depth), last = length(depth, all - 1);
    return all * head_bytes() + ((all - 1) * (group / QUAD) + (last + QUAD - 1) / QUAD) * quad_bytes();
  }
};

// x as the kernels read it: see Inputs.
struct QuantizedCall : GemmCall {
  Form form;
  const void *group_sums;   // [rows][groups]; nullptr where they are not needed
  const float *row_scales;  // [rows], with int8 inputs
};

// Rows of x made ready for a kernel, padded with nought to whole quads.
struct Inputs {
  const void *x;
  int64_t x_stride;
  Type type;
  int64_t depth;
  Form form;
  void *rows;         // out: numbers of the kernel's type, `stride` apart; nullptr where it reads x itself
  int64_t stride;
  void *group_sums;   // out: int32 or float32; nullptr where nobody asks for them
  float *row_scales;  // out, with int8 inputs
};

using PrepareInputs = void (*)(const Inputs &, int64_t first_row, int64_t last_row);

// A product for inputs of a kind, in 8 and in 4 bits, and how its inputs are made.
struct QuantizedProduct {
  GemmKernel bits8, bits4;
  PrepareInputs prepare;
  int64_t input_size;  // bytes of a number of x as it is read
};

struct QuantizedKernels {
  QuantizedProduct widened;   // x in float32
  QuantizedProduct integers;  // x in int8, its sums whole numbers
  QuantizedProduct bf16;      // x in bfloat16, read where it stands; nullptrs where that is widened too
};

extern const QuantizedKernels quantized_portable;
#if defined(__x86_64__)
extern const QuantizedKernels quantized_avx2;
extern const QuantizedKernels quantized_avx512;
extern const QuantizedKernels quantized_avx512bf16;
#endif

// Panels first..last of a weight into `packed`. Codes lie `stride` bytes apart, one a byte: int8 for 8 bits, else 0 to 15.
void pack_panels(const Form &form, int64_t columns, int64_t depth, const uint8_t *codes, int64_t stride, const float *scales,
                 const uint8_t *zeros, char *packed, int64_t first, int64_t last);

// Row `column` of the weight, dequantised, as numbers of `type`.
void unpack_row(const Form &form, int64_t depth, const char *packed, int64_t column, Type type, void *row);

}  // namespace quire
