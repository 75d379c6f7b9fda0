// Scores of a step to weights, and what rows remember between steps: maximum, sums and weighted values.
//
// Not here: the products (products.h).
#pragma once

#include "attention/products.h"

namespace quire::attention {
namespace {

constexpr float MINUS_INFINITY = -__builtin_inff();
constexpr float LOWEST = -3.402823466e38f;
constexpr float LOG2_E = 1.44269504f;

inline int64_t clamp(int64_t x, int64_t limit) { return x < 0 ? 0 : x < limit ? x : limit; }

// `scores` and `weights` are [TILE_ROWS][STEP_TOKENS], the others [TILE_ROWS].
template <typename Left>
struct Work {
  float *scores;
  Left *weights;
  float *tops;    // a step's greatest score, then what is taken from each score
  float *scales;  // by how much what was summed before shrinks
};

template <typename V, typename E>
class Softmax {
  using F = typename V::F;
  using Left = typename E::Left;
  static constexpr int LANES = V::LANES, GROUP_VECTORS = LANE_TOKENS / LANES, STEP_VECTORS = STEP_TOKENS / LANES;
  static constexpr int LEFT_ROW = STEP_TOKENS / E::PAIR * E::LEFT_STEP;

 public:
  Softmax(const Call &call, const Segment &segment, const Work<Left> &work)
      : call_(call), segment_(segment), work_(work),
        scale_(call.soft_cap > 0 ? LOG2_E : call.scale * LOG2_E) {}

  // Scores of the step that begins at `base` to weights of zero to one. A block's scores outside its groups are not
  // read, nor are weights written there.
  template <typename T>
  void weigh(const State &state, int64_t base, const View<T> &view, const RowBlock *blocks, int64_t num_blocks) const {
    const int64_t last = segment_.position + segment_.queries - 1;
    const bool is_masked =
        base + STEP_TOKENS > segment_.position + 1 || (call_.window > 0 && base < last + 1 - call_.window);
    for (int64_t block = 0; block < num_blocks; ++block)
      for (int64_t row = blocks[block].first; row < blocks[block].first + blocks[block].count; ++row) {
        if (blocks[block].is_blind()) {
          work_.tops[row] = MINUS_INFINITY;
          continue;
        }
        if (is_masked || E::HAS_SCALES || call_.soft_cap > 0) prepare(view, base, row, blocks[block]);
        work_.tops[row] = top(row, blocks[block]);
      }
    shift(state);
    for (int64_t block = 0; block < num_blocks; ++block)
      for (int64_t row = blocks[block].first; row < blocks[block].first + blocks[block].count; ++row)
        switch (blocks[block].is_blind() ? 0 : blocks[block].group_end) {
          case 1: weigh_row<1>(state, view, row); break;
          case 2: weigh_row<2>(state, view, row); break;
          case 3: weigh_row<3>(state, view, row); break;
          case 4: weigh_row<4>(state, view, row); break;
        }
  }

  // Adds a later chunk's state. One that saw nothing changes nothing.
  static void merge(const State &total, const State &later, int64_t rows, int64_t width) {
    for (int64_t row = 0; row < rows; ++row) {
      const float a = total.maximum[row], b = later.maximum[row], maximum = a > b ? a : b;
      const float shift = maximum == MINUS_INFINITY ? 0.0f : maximum;
      const F keep = V::exp2(V::set(a - shift)), add = V::exp2(V::set(b - shift));
      total.maximum[row] = maximum;
      mix(total.sums + row * LANE_TOKENS, later.sums + row * LANE_TOKENS, keep, add, LANE_TOKENS);
      mix(total.values + row * width, later.values + row * width, keep, add, width);
    }
  }

 private:
  // Scores with all that changes them in place; those that a row does not see become minus infinity.
  template <typename T>
  void prepare(const View<T> &view, int64_t base, int64_t row, const RowBlock &block) const {
    const int64_t at = segment_.position + row / segment_.heads;
    const int64_t end = clamp(at + 1 - base, STEP_TOKENS);
    const int64_t begin = call_.window > 0 ? clamp(at + 1 - call_.window - base, STEP_TOKENS) : 0;
    float *scores = work_.scores + row * STEP_TOKENS;
    for (int64_t first = 0; first < block.group_end * LANE_TOKENS; first += LANES) {
      if (first < block.group_begin * LANE_TOKENS) {
        V::store(scores + first, V::set(MINUS_INFINITY));
        continue;
      }
      F x = V::load(scores + first);
      if constexpr (E::HAS_SCALES)
        x = V::mul(x, V::load(view.key_scales[first / LANE_TOKENS] + first % LANE_TOKENS));
      if (call_.soft_cap > 0) x = capped(V::mul(x, V::set(call_.scale)));
      V::store(scores + first, V::keep(x, clamp(begin - first, LANES), clamp(end - first, LANES)));
    }
  }

  // cap * tanh(x / cap)
  QUIRE_INLINE F capped(F x) const {
    const F cap = V::set(call_.soft_cap), one = V::set(1.0f);
    const F power = V::exp2(V::at_most(V::mul(x, V::set(2.0f * LOG2_E / call_.soft_cap)), 128.0f));
    return V::mul(cap, V::sub(one, V::div(V::set(2.0f), V::add(power, one))));
  }

  QUIRE_INLINE float top(int64_t row, const RowBlock &block) const {
    const float *scores = work_.scores + row * STEP_TOKENS;
    F top = V::load(scores + block.group_begin * LANE_TOKENS);
    for (int64_t i = block.group_begin * LANE_TOKENS + LANES; i < block.group_end * LANE_TOKENS; i += LANES)
      top = V::max(top, V::load(scores + i));
    return V::max_lane(top) * scale_;
  }

  // Maxima of all rows, and what is taken from their scores so that none is above zero. A row that saw nothing yet
  // keeps minus infinity.
  void shift(const State &state) const {
    for (int64_t row = 0; row < segment_.rows(); row += LANES) {
      const F before = V::load(state.maximum + row), maximum = V::max(V::load(work_.tops + row), before);
      const F taken = V::max(maximum, V::set(LOWEST));
      V::store(state.maximum + row, maximum);
      V::store(work_.tops + row, taken);
      V::store(work_.scales + row, V::exp2(V::sub(before, taken)));
    }
  }

  template <int GROUPS, typename T>
  QUIRE_INLINE void weigh_row(const State &state, const View<T> &view, int64_t row) const {
    F x[STEP_VECTORS];
    const F scale = V::set(scale_), taken = V::set(work_.tops[row]);
    const float *scores = work_.scores + row * STEP_TOKENS;
#pragma GCC unroll 16
    for (int v = 0; v < STEP_VECTORS; ++v)
      x[v] = v < GROUPS * GROUP_VECTORS ? V::exp2(V::sub(V::mul(V::load(scores + v * LANES), scale), taken))
                                        : V::zero();
    put<GROUPS>(work_.weights + row * LEFT_ROW, view, x);
#pragma GCC unroll 16
    for (int stride = STEP_VECTORS / 2; stride > 0; stride /= 2)
#pragma GCC unroll 16
      for (int v = 0; v < stride; ++v) x[v] = V::add(x[v], x[v + stride]);
    float *sums = state.sums + row * LANE_TOKENS;
    V::store(sums, V::fma(V::load(sums), V::set(work_.scales[row]), x[0]));
  }

  template <int GROUPS, typename T>
  static QUIRE_INLINE void put(Left *weights, const View<T> &view, const F (&x)[STEP_VECTORS]) {
    if constexpr (E::HAS_SCALES) {
      F scaled[GROUPS * GROUP_VECTORS];
#pragma GCC unroll 16
      for (int v = 0; v < GROUPS * GROUP_VECTORS; ++v)
        scaled[v] = V::mul(x[v], V::load(view.value_scales[v / GROUP_VECTORS] + v % GROUP_VECTORS * LANES));
      E::put(weights, scaled, GROUPS * GROUP_VECTORS);
    } else {
      E::put(weights, x, GROUPS * GROUP_VECTORS);
    }
  }

  static QUIRE_INLINE void mix(float *to, const float *from, F keep, F add, int64_t count) {
    for (int64_t i = 0; i < count; i += LANES)
      V::store(to + i, V::fma(V::load(to + i), keep, V::mul(V::load(from + i), add)));
  }

  const Call &call_;
  const Segment &segment_;
  const Work<Left> &work_;
  const float scale_;
};

}  // namespace
}  // namespace quire::attention
