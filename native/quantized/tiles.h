// The tile that all quantised products share, and the arithmetic that any set of instructions can do.
//
// Included by the file of each set of instructions and compiled with its flags; so everything is in an unnamed namespace.
#pragma once

#include "gemm/tiles.h"
#include "quantized/quantized.h"

namespace quire {
namespace {

// Arithmetic: Lanes, Input (a number of x), Sum (a vector of sums), READS_X (x is read where the caller has it), UNROLLED
// (quads of a loop), start(), finish(), and quad<BITS, R>(weights, sum, x, offset) that multiplies a quad of depth.
template <typename Arithmetic, int BITS, int ROWS>
struct QuantizedKernel {
  using Lanes = typename Arithmetic::Lanes;
  using Sum = typename Arithmetic::Sum;
  static constexpr int MAX_ROWS = ROWS, VECTORS = PANEL / Lanes::WIDTH;
  static constexpr int QUAD_BYTES = PANEL * QUAD * BITS / 8, X_BYTES = QUAD * sizeof(typename Arithmetic::Input);

  static int64_t panel_bytes(const GemmCall &call) {
    return static_cast<const QuantizedCall &>(call).form.panel_bytes(call.depth);
  }

  template <int R>
  static inline void start(const QuantizedCall &call, int64_t row, int64_t group, const char *zeros,
                           Sum (&sum)[R][VECTORS]) {
    using GroupSum = typename Arithmetic::GroupSum;
    const int64_t groups = call.form.groups(call.depth);
    const GroupSum *inputs = static_cast<const GroupSum *>(call.group_sums);
    if (inputs != nullptr) inputs += row * groups + group;
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 16
      for (int v = 0; v < VECTORS; ++v) {
        if (inputs == nullptr)
          sum[r][v] = Arithmetic::zero();
        else if (call.form.has_zeros)
          sum[r][v] = Arithmetic::template start<BITS>(inputs[r * groups], zeros + v * Lanes::WIDTH);
        else
          sum[r][v] = Arithmetic::start(inputs[r * groups]);
      }
    }
  }

  // A group's sums by its scales on top of those before it; the last one's also by the scales of the rows, if they have any.
  template <int R>
  static inline void finish(const char *scales, bool is_first, const float *row_scales, Sum (&sum)[R][VECTORS],
                            float (*sums)[PANEL]) {
#pragma GCC unroll 16
    for (int v = 0; v < VECTORS; ++v) {
      const auto scale = Lanes::load(reinterpret_cast<const float *>(scales) + v * Lanes::WIDTH);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        float *to = sums[r] + v * Lanes::WIDTH;
        auto total = Lanes::multiply(Arithmetic::finish(sum[r][v]), scale);
        if (!is_first) total = Lanes::add(Lanes::load(to), total);
        if (row_scales != nullptr) total = Lanes::multiply(total, Lanes::broadcast(row_scales[r]));
        Lanes::store(to, total);
      }
    }
  }

  template <int R>
  static inline void tile(const GemmCall &given, int64_t row, const char *panel, float (*sums)[PANEL], Prefetch prefetch) {
    constexpr int TURN = 512 / QUAD_BYTES, UNROLLED = Arithmetic::UNROLLED;
    const QuantizedCall &call = static_cast<const QuantizedCall &>(given);
    const int64_t stride = call.x_stride * int64_t(sizeof(typename Arithmetic::Input));
    const int64_t groups = call.form.groups(call.depth), head = call.form.head_bytes();
    RowPointers<R> x(static_cast<const char *>(call.x) + row * stride, stride);
    for (int64_t group = 0; group < groups; ++group) {
      Sum sum[R][VECTORS];
      start<R>(call, row, group, panel + PANEL * 4, sum);
      const char *weights = panel + head;
      const int64_t length = call.form.length(call.depth, group);
      int64_t quads = Arithmetic::READS_X ? length / QUAD : (length + QUAD - 1) / QUAD;
      for (; quads >= TURN; quads -= TURN) {
        prefetch.run();
#pragma GCC unroll 1
        for (int part = 0; part < TURN / UNROLLED; ++part, x.advance(UNROLLED * X_BYTES), weights += UNROLLED * QUAD_BYTES)
#pragma GCC unroll 4
          for (int quad = 0; quad < UNROLLED; ++quad)
            Arithmetic::template quad<BITS, R>(weights + quad * QUAD_BYTES, sum, x, quad * X_BYTES);
      }
      for (; quads > 0; --quads, x.advance(X_BYTES), weights += QUAD_BYTES)
        Arithmetic::template quad<BITS, R>(weights, sum, x, 0);
      if (Arithmetic::READS_X && length % QUAD != 0) {  // nothing behind a row is read
        char last[R][X_BYTES] = {};
        for (int r = 0; r < R; ++r)
          __builtin_memcpy(last[r], x.base[r / 3] + (r % 3) * stride, size_t(length % QUAD) * (X_BYTES / QUAD));
        Arithmetic::template quad<BITS, R>(weights, sum, RowPointers<R>(last[0], X_BYTES), 0);
        weights += QUAD_BYTES;
      }
      const bool is_last = group + 1 == groups && call.row_scales != nullptr;
      finish<R>(panel, group == 0, is_last ? call.row_scales + row : nullptr, sum, sums);
      panel = weights;
    }
  }
};

// Codes of a quad for vector v of the panel.
template <typename Lanes, int BITS>
struct QuadCodes {
  using Ints = typename Lanes::Ints;
  static constexpr int WIDTH = Lanes::WIDTH;

  static inline Ints lanes(const char *weights, int v) {
    return Lanes::load(weights + (BITS == 8 ? v : v % (PANEL / WIDTH / 2)) * WIDTH * 4);
  }
  static inline int shift(int v) { return BITS == 4 && v >= PANEL / WIDTH / 2 ? 4 : 0; }

  // The four numbers of each output, less nought, for inputs that are not int8.
  static inline void numbers(const char *weights, int v, Ints (&to)[QUAD]) {
    const Ints quads = lanes(weights, v);
    if constexpr (BITS == 8) {
      const Ints signed_bytes = Lanes::signed_quads(quads);
#pragma GCC unroll 4
      for (int i = 0; i < QUAD; ++i) to[i] = signed_bytes << (24 - 8 * i) >> 24;
    } else {
#pragma GCC unroll 4
      for (int i = 0; i < QUAD; ++i) to[i] = ((quads >> (8 * QUAD_PLACES[i] + shift(v))) & 15) - 8;
    }
  }

  // The i-th pair, 16 bits each, for inputs of int8.
  static inline Ints pair(const char *weights, int i, int v) {
    return (lanes(weights, v) >> (8 * i + shift(v))) & (BITS == 8 ? 0x00ff00ff : 0x000f000f);
  }
};

// Inputs and codes widened to float32.
template <typename Vectors>
struct WidenedArithmetic {
  using Lanes = Vectors;
  using Input = float;
  using GroupSum = float;
  using Sum = typename Lanes::Floats;
  static constexpr bool READS_X = false;
  static constexpr int UNROLLED = 1;

  static inline Sum zero() { return Lanes::broadcast(0.0f); }
  static inline Sum start(float) { return zero(); }
  template <int BITS>
  static inline Sum start(float inputs, const char *zeros) {
    return Lanes::multiply(Lanes::to_float(Lanes::bytes(zeros) - (BITS == 8 ? 0 : 8)), Lanes::broadcast(inputs));
  }
  static inline typename Lanes::Floats finish(Sum sum) { return sum; }

  template <int BITS, int R, int VECTORS>
  static inline void quad(const char *weights, Sum (&sum)[R][VECTORS], const RowPointers<R> &x, int offset) {
    typename Lanes::Ints numbers[VECTORS][QUAD];
#pragma GCC unroll 16
    for (int v = 0; v < VECTORS; ++v) QuadCodes<Lanes, BITS>::numbers(weights, v, numbers[v]);
#pragma GCC unroll 4
    for (int i = 0; i < QUAD; ++i)
#pragma GCC unroll 16
      for (int v = 0; v < VECTORS; ++v) {
        const auto weight = Lanes::to_float(numbers[v][i]);
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r)
          sum[r][v] = Lanes::multiply_add(Lanes::broadcast(x.template read<float>(r, offset + i * 4)), weight, sum[r][v]);
      }
  }
};

// Inputs of 8 bits, both sides widened to 16: pairs of products are added in 32 bits, exactly.
template <typename Vectors>
struct PairedArithmetic {
  using Lanes = Vectors;
  using Input = int16_t;
  using GroupSum = int32_t;
  using Sum = typename Lanes::Ints;
  static constexpr bool READS_X = false;
  static constexpr int UNROLLED = 2;

  static inline Sum zero() { return Lanes::whole(0); }
  static inline Sum start(int32_t inputs) { return Lanes::whole(inputs); }
  template <int BITS>
  static inline Sum start(int32_t inputs, const char *zeros) {
    return Lanes::bytes(zeros) * inputs;
  }
  static inline typename Lanes::Floats finish(Sum sum) { return Lanes::to_float(sum); }

  template <int BITS, int R, int VECTORS>
  static inline void quad(const char *weights, Sum (&sum)[R][VECTORS], const RowPointers<R> &x, int offset) {
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i)
#pragma GCC unroll 16
      for (int v = 0; v < VECTORS; ++v) {
        const auto codes = QuadCodes<Lanes, BITS>::pair(weights, i, v);
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r)
          sum[r][v] = Lanes::add_pairs(sum[r][v], codes, Lanes::whole(x.template read<int32_t>(r, offset + i * 4)));
      }
  }
};

// Rows and panels of one thread. The next panel is fetched while one is multiplied: where that takes long, the processor's own
// fetching runs dry. Measured (benchmarks/kernels_quantized.py): good for 8 bits from the first row on (4 rows: 18 instead of
// 12 GB/s), for 4 bits above four rows (4 rows by int8: 18 instead of 24).
template <typename Kernel, typename Store>
void quantized_part(const GemmCall &call, const GemmPart &part) {
  const int64_t rows = part.last_row - part.first_row;
  const int64_t tiles = (rows + Kernel::MAX_ROWS - 1) / Kernel::MAX_ROWS;
  const int64_t panel_bytes = Kernel::panel_bytes(call), slice = panel_bytes / tiles;
  const int64_t step = slice / (panel_bytes / 512 + 1) + 1;
  const bool fetches = Kernel::QUAD_BYTES > 64 || rows > 4;
  for (int64_t panel = part.first_panel; panel < part.last_panel; ++panel) {
    const char *packed = static_cast<const char *>(call.packed) + panel * panel_bytes;
    const bool is_last = panel + 1 == part.last_panel;
    int64_t row = part.first_row;
    for (int64_t tile = 0; tile < tiles; ++tile) {
      const int64_t count = (rows * (tile + 1)) / tiles - (rows * tile) / tiles;
      Prefetch prefetch{packed + panel_bytes + slice * tile, step, fetches && !is_last ? int((step + 63) / 64) : 0};
      tile_of<Kernel, Store, Kernel::MAX_ROWS>(call, count, row, panel, packed, prefetch);
      row += count;
    }
  }
}

template <typename Arithmetic, typename Store, int ROWS>
constexpr QuantizedProduct product(PrepareInputs prepare) {
  return {quantized_part<QuantizedKernel<Arithmetic, 8, ROWS>, Store>,
          quantized_part<QuantizedKernel<Arithmetic, 4, ROWS>, Store>, prepare,
          int64_t(sizeof(typename Arithmetic::Input))};
}

}  // namespace
}  // namespace quire
