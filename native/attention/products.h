// The two products of a step for a block of rows: scores = queries x keys, values += weights x values.
//
// Written over two sets of operations that each instruction set's file gives:
//   V  vectors of float32: LANES of them, arithmetic, 2^x, masks
//   E  how numbers of a type on the right meet them: `load` LANES columns of PAIR neighbours each, `dot` with a factor
//      of the left side, whose numbers are stored as `Left` (a head's query; a step's weights)
//
// Not here: where the right side lies (reader.h), what becomes of scores (softmax.h).
#pragma once

#include "attention/attention.h"

#define QUIRE_INLINE inline __attribute__((always_inline))

namespace quire::attention {
namespace {

// Where the 16-token groups of a step lie, and for int8 what each token is multiplied with.
template <typename T>
struct View {
  const T *keys[STEP_GROUPS];
  const T *values[STEP_GROUPS];
  const float *key_scales[STEP_GROUPS];
  const float *value_scales[STEP_GROUPS];
};

// Rows first..first + count of a tile, and which groups of the step any of them sees.
struct RowBlock {
  int32_t first, count;
  int32_t group_begin, group_end;

  bool is_blind() const { return group_begin >= group_end; }
};

template <typename V, typename E>
class Products {
  using F = typename V::F;
  using T = typename E::T;
  using Left = typename E::Left;
  static constexpr int LANES = V::LANES, PAIR = E::PAIR, COLUMNS = E::COLUMNS;
  static constexpr int GROUP_VECTORS = LANE_TOKENS / LANES;
  static constexpr int LEFT_GROUP = LANE_TOKENS / PAIR * E::LEFT_STEP;  // numbers on the left for 16 on the right
  static constexpr int LEFT_ROW = STEP_GROUPS * LEFT_GROUP;
  static_assert(STEP_TOKENS / LANES % COLUMNS == 0, "a step's scores are whole blocks of columns");

 public:
  // `ahead`: what to fetch meanwhile, or nullptr. q: rows of `width` numbers.
  static void score(const Left *q, int64_t width, const View<T> &view, const View<T> *ahead, const RowBlock &block,
                    float *scores) {
    const Scoring scoring{q + block.first * (width / PAIR * E::LEFT_STEP), width, view, ahead,
                          scores + block.first * STEP_TOKENS};
    switch (ahead == nullptr ? block.count : block.count + BLOCK_ROWS) {
#define QUIRE_CASE(R) \
  case R: return score_rows<R, false>(scoring, block); \
  case R + BLOCK_ROWS: return score_rows<R, true>(scoring, block);
      QUIRE_CASE(1) QUIRE_CASE(2) QUIRE_CASE(3) QUIRE_CASE(4) QUIRE_CASE(5) QUIRE_CASE(6)
#undef QUIRE_CASE
    }
  }

  // `scales`: what each row's sums so far are multiplied with; nullptr: there are none yet.
  static void add(const Left *weights, int64_t width, const View<T> &view, const View<T> *ahead, const RowBlock &block,
                  const float *scales, float *values) {
    const Adding adding{weights + block.first * LEFT_ROW, width, view, ahead,
                        scales == nullptr ? nullptr : scales + block.first, values + block.first * width};
    switch (ahead == nullptr ? block.count : block.count + BLOCK_ROWS) {
#define QUIRE_CASE(R) \
  case R: return add_rows<R, false>(adding, block); \
  case R + BLOCK_ROWS: return add_rows<R, true>(adding, block);
      QUIRE_CASE(1) QUIRE_CASE(2) QUIRE_CASE(3) QUIRE_CASE(4) QUIRE_CASE(5) QUIRE_CASE(6)
#undef QUIRE_CASE
    }
  }

 private:
  struct Scoring {
    const Left *q;
    int64_t width;
    const View<T> &view;
    const View<T> *ahead;
    float *scores;
  };
  struct Adding {
    const Left *weights;
    int64_t width;
    const View<T> &view;
    const View<T> *ahead;
    const float *scales;
    float *values;
  };

  // sums += left x right: `count` steps down R rows on the left and C vectors of columns on the right.
  template <int R, int C, bool FETCHES>
  static QUIRE_INLINE void multiply(F (&sums)[R][C], const Left *left, int64_t left_stride, const T *const (&right)[C],
                                    const T *const (&ahead)[C], int64_t right_stride, int64_t count) {
    for (int64_t i = 0; i < count; ++i) {
      typename E::Right columns[C];
#pragma GCC unroll 16
      for (int c = 0; c < C; ++c) {
        columns[c] = E::load(right[c] + i * right_stride);
        if (FETCHES) __builtin_prefetch(ahead[c] + i * right_stride, 0, 2);
      }
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        const auto factor = E::factor(left + r * left_stride + i * E::LEFT_STEP);
#pragma GCC unroll 16
        for (int c = 0; c < C; ++c) sums[r][c] = E::dot(sums[r][c], columns[c], factor);
      }
    }
  }

  template <int R, int C>
  static QUIRE_INLINE void clear(F (&sums)[R][C]) {
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 16
      for (int c = 0; c < C; ++c) sums[r][c] = V::zero();
  }

  template <int R, bool FETCHES>
  static void score_rows(const Scoring &scoring, const RowBlock &block) {
    int column = block.group_begin * GROUP_VECTORS;
    const int end = block.group_end * GROUP_VECTORS;
    for (; column + COLUMNS <= end; column += COLUMNS) score_block<R, COLUMNS, FETCHES>(scoring, column);
    if constexpr (COLUMNS > 2)
      for (; column + 2 <= end; column += 2) score_block<R, 2, FETCHES>(scoring, column);
    for (; column < end; ++column) score_block<R, 1, FETCHES>(scoring, column);
  }

  template <int R, int C, bool FETCHES>
  static void score_block(const Scoring &scoring, int column) {
    const T *right[C], *next[C];
    for (int c = 0; c < C; ++c) {
      const int group = (column + c) / GROUP_VECTORS, part = (column + c) % GROUP_VECTORS;
      right[c] = scoring.view.keys[group] + part * LANES * PAIR;
      next[c] = FETCHES ? scoring.ahead->keys[group] + part * LANES * PAIR : nullptr;
    }
    F sums[R][C];
    clear(sums);
    multiply<R, C, FETCHES>(sums, scoring.q, scoring.width / PAIR * E::LEFT_STEP, right, next, LANE_TOKENS * PAIR,
                            scoring.width / PAIR);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 16
      for (int c = 0; c < C; ++c) V::store(scoring.scores + r * STEP_TOKENS + (column + c) * LANES, sums[r][c]);
  }

  template <int R, bool FETCHES>
  static void add_rows(const Adding &adding, const RowBlock &block) {
    const int64_t vectors = adding.width / LANES;
    int64_t column = 0;
    for (; column + COLUMNS <= vectors; column += COLUMNS) add_block<R, COLUMNS, FETCHES>(adding, block, column);
    for (; column < vectors; ++column) add_block<R, 1, FETCHES>(adding, block, column);
  }

  template <int R, int C, bool FETCHES>
  static void add_block(const Adding &adding, const RowBlock &block, int64_t column) {
    float *values = adding.values + column * LANES;
    F sums[R][C];
    clear(sums);
    if (adding.scales != nullptr)
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        const F scaling = V::set(adding.scales[r]);
#pragma GCC unroll 16
        for (int c = 0; c < C; ++c) sums[r][c] = V::mul(V::load(values + r * adding.width + c * LANES), scaling);
      }
    for (int group = block.group_begin; group < block.group_end; ++group) {
      const T *right[C], *next[C];
#pragma GCC unroll 16
      for (int c = 0; c < C; ++c) {
        right[c] = adding.view.values[group] + (column + c) * LANES * PAIR;
        next[c] = FETCHES ? adding.ahead->values[group] + (column + c) * LANES * PAIR : nullptr;
      }
      multiply<R, C, FETCHES>(sums, adding.weights + group * LEFT_GROUP, LEFT_ROW, right, next, adding.width * PAIR,
                              LANE_TOKENS / PAIR);
    }
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 16
      for (int c = 0; c < C; ++c) V::store(values + r * adding.width + c * LANES, sums[r][c]);
  }
};

}  // namespace
}  // namespace quire::attention
