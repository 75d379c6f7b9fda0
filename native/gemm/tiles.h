// The loops over panels and rows that all GEMM kernels share, and the end of a tile: bias, rounding, storing.
//
// Included by the file of each set of instructions and compiled with its flags; so everything is in an unnamed namespace.
#pragma once

#include "gemm/gemm.h"
#include "numbers.h"

namespace quire {
namespace {

// Rows of the next panel to be fetched while this one is multiplied: `lines` cache lines from `next` on, then `step`
// bytes further, once every four pairs (or eight single numbers) of depth.
struct Prefetch {
  const char *next;
  int64_t step;
  int lines;

  inline void run() {
    for (int line = 0; line < lines; ++line) __builtin_prefetch(next + 64 * line, 0, 2);
    next += step;
  }
};

// Where R rows are read: a pointer for every three, which the processor's addresses (base, base + stride,
// base + 2 stride) reach, so that twelve rows fit its registers.
template <int R>
struct RowPointers {
  const char *base[(R + 2) / 3];
  int64_t stride;

  inline RowPointers(const char *first, int64_t bytes) : stride(bytes) {
#pragma GCC unroll 4
    for (int i = 0; i < (R + 2) / 3; ++i) base[i] = first + 3 * i * bytes;
  }

  inline void advance(int64_t bytes) {
#pragma GCC unroll 4
    for (int i = 0; i < (R + 2) / 3; ++i) base[i] += bytes;
  }

  template <typename Number>
  inline Number read(int r, int64_t offset) const {
    Number number;
    __builtin_memcpy(&number, base[r / 3] + (r % 3) * stride + offset, sizeof number);
    return number;
  }
};

inline void add_bias(const GemmCall &call, int64_t column, int width, float *sums) {
  if (call.type == Type::F32) {
    const float *bias = static_cast<const float *>(call.bias) + column;
    for (int c = 0; c < width; ++c) sums[c] += bias[c];
    return;
  }
  const uint16_t *bias = static_cast<const uint16_t *>(call.bias) + column;
  if (call.type == Type::BF16)
    for (int c = 0; c < width; ++c) sums[c] += from_bf16(bias[c]);
  else
    for (int c = 0; c < width; ++c) sums[c] += from_f16(bias[c]);
}

template <typename Vectors>
__attribute__((noinline)) void store_row(const GemmCall &call, int64_t row, int64_t column, int width, float *sums) {
  if (call.bias != nullptr) add_bias(call, column, width, sums);
  const int64_t at = row * call.y_stride + column;
  if (call.y_type == Type::F32) {
    float *y = static_cast<float *>(call.y) + at;
    if (width == PANEL)
      for (int c = 0; c < PANEL; ++c) y[c] = sums[c];
    else
      for (int c = 0; c < width; ++c) y[c] = sums[c];
    return;
  }
  uint16_t *y = static_cast<uint16_t *>(call.y) + at;
  uint16_t narrow[PANEL];
  uint16_t *target = width == PANEL ? y : narrow;
  if (call.y_type == Type::BF16)
    Vectors::to_bf16(sums, target);
  else
    Vectors::to_f16(sums, target);
  if (width < PANEL)
    for (int c = 0; c < width; ++c) y[c] = narrow[c];
}

// Kernel: MAX_ROWS, panel_bytes(call), and tile<R>(call, row, panel, sums, prefetch) that multiplies R rows by a panel.
template <typename Kernel, typename Vectors, int R>
inline void tile_of(const GemmCall &call, int64_t rows, int64_t row, int64_t panel, const char *packed, Prefetch prefetch) {
  if constexpr (R == 0) {
    (void)call, (void)rows, (void)row, (void)panel, (void)packed, (void)prefetch;
  } else if (rows == R) {
    alignas(64) float sums[R][PANEL];
    Kernel::template tile<R>(call, row, packed, sums, prefetch);
    const int64_t column = panel * PANEL;
    const int width = call.columns - column < PANEL ? int(call.columns - column) : PANEL;
    for (int r = 0; r < R; ++r) store_row<Vectors>(call, row + r, column, width, sums[r]);
  } else {
    tile_of<Kernel, Vectors, R - 1>(call, rows, row, panel, packed, prefetch);
  }
}

template <typename Kernel, typename Vectors>
void gemm_part(const GemmCall &call, const GemmPart &part) {
  const int64_t rows = part.last_row - part.first_row;
  const int64_t tiles = (rows + Kernel::MAX_ROWS - 1) / Kernel::MAX_ROWS;
  const int64_t panel_bytes = Kernel::panel_bytes(call);
  // Above four rows computing takes long enough that the processor's own prefetching of one panel runs dry at its end.
  const bool fetches = rows > 4;
  const int64_t turns = panel_bytes / 512 + 1;
  for (int64_t panel = part.first_panel; panel < part.last_panel; ++panel) {
    const char *packed = static_cast<const char *>(call.packed) + panel * panel_bytes;
    const bool is_last = panel + 1 == part.last_panel;
    int64_t row = part.first_row;
    for (int64_t tile = 0; tile < tiles; ++tile) {
      const int64_t count = (rows * (tile + 1)) / tiles - (rows * tile) / tiles;
      Prefetch prefetch{packed, 0, 0};
      if (fetches && !is_last) {
        const int64_t slice = panel_bytes / tiles;
        const int64_t step = (slice + turns - 1) / turns;
        prefetch = {packed + panel_bytes + slice * tile, step, int((step + 63) / 64)};
      }
      tile_of<Kernel, Vectors, Kernel::MAX_ROWS>(call, count, row, panel, packed, prefetch);
      row += count;
    }
  }
}

// Sums in float32, x and weights widened to it. Weights: STEP numbers of depth stand together, SIZE bytes each, and
// load(at, s, v) gives vector v of the s-th of them.
template <typename Vectors, typename Weights, int ROWS>
struct WideningKernel {
  static constexpr int MAX_ROWS = ROWS;

  static int64_t panel_bytes(const GemmCall &call) { return panel_size(Weights::TYPE, call.depth) * Weights::SIZE; }

  template <int R>
  static inline void tile(const GemmCall &call, int64_t row, const char *weights, float (*sums)[PANEL],
                          Prefetch prefetch) {
    using Vector = typename Vectors::Vector;
    constexpr int VECTORS = PANEL / Vectors::WIDTH, STEP = Weights::STEP, TURN = 512 / (PANEL * Weights::SIZE);
    const int64_t stride = call.x_stride * 4;
    RowPointers<R> x(static_cast<const char *>(call.x) + row * stride, stride);
    Vector sum[R][VECTORS];
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 16
      for (int v = 0; v < VECTORS; ++v) sum[r][v] = Vectors::zero();
    const auto multiply = [&](int at) {
#pragma GCC unroll 2
      for (int s = 0; s < STEP; ++s) {
        const char *step = weights + at * PANEL * Weights::SIZE;
        if constexpr (VECTORS == 2) {  // registers enough to hold the weights: each factor is broadcast once
          const Vector left = Weights::load(step, s, 0), right = Weights::load(step, s, 1);
#pragma GCC unroll 16
          for (int r = 0; r < R; ++r) {
            const Vector factor = Vectors::broadcast(x.template read<float>(r, (at + s) * 4));
            sum[r][0] = Vectors::multiply_add(factor, left, sum[r][0]);
            sum[r][1] = Vectors::multiply_add(factor, right, sum[r][1]);
          }
        } else {
#pragma GCC unroll 16
          for (int v = 0; v < VECTORS; ++v) {
            const Vector weight = Weights::load(step, s, v);
#pragma GCC unroll 16
            for (int r = 0; r < R; ++r)
              sum[r][v] = Vectors::multiply_add(Vectors::broadcast(x.template read<float>(r, (at + s) * 4)), weight,
                                                sum[r][v]);
          }
        }
      }
    };
    const int64_t depth = (call.depth + STEP - 1) / STEP * STEP;
    for (int64_t turn = depth / TURN; turn > 0; --turn, x.advance(TURN * 4), weights += 512) {
      prefetch.run();
#pragma GCC unroll 8
      for (int at = 0; at < TURN; at += STEP) multiply(at);
    }
    for (int64_t rest = depth % TURN; rest > 0; rest -= STEP, x.advance(STEP * 4), weights += STEP * PANEL * Weights::SIZE)
      multiply(0);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 16
      for (int v = 0; v < VECTORS; ++v) Vectors::store(sums[r] + v * Vectors::WIDTH, sum[r][v]);
  }
};

}  // namespace
}  // namespace quire
