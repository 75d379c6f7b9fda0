// The kernel: rows of a tile (queries x heads) over the keys of one KV head, step by step.
//
// Written once over two sets of operations that each instruction set's file gives:
//   V  vectors of float32: LANES of them, arithmetic, 2^x, masks
//   E  how numbers of the cache's type meet them: `load` LANES columns of PAIR neighbours each, `dot` with a factor of
//      the left side, whose numbers are stored as `Left` (Q of a head; probabilities of a step)
// Included by one file for each instruction set; everything is in that file's anonymous namespace.
#pragma once

#include <cstring>

#include "attention/attention.h"

#define QUIRE_INLINE inline __attribute__((always_inline))

namespace quire::attention {
namespace {

constexpr float MINUS_INFINITY = -__builtin_inff();
constexpr float LOG2_E = 1.44269504f;

// Where the 16-token groups of a step lie.
template <typename T>
struct View {
  const T *keys[STEP_GROUPS];
  const T *values[STEP_GROUPS];
};

template <typename V, typename E>
class Tile {
  using F = typename V::F;
  using T = typename E::T;
  using Left = typename E::Left;
  static constexpr int LANES = V::LANES, PAIR = E::PAIR, COLUMNS = E::COLUMNS;
  static constexpr int ROWS = 6;
  static constexpr int STEP_VECTORS = STEP_TOKENS / LANES;
  static constexpr int LEFT_GROUP = LANE_TOKENS / PAIR * E::LEFT_STEP;  // numbers on the left for 16 on the right
  static_assert(STEP_VECTORS % COLUMNS == 0, "a step's scores are whole blocks of columns");

 public:
  static void compute(const Call &call, const Segment &segment, const Segment *next, char *scratch) {
    Tile tile(call, segment, next, scratch);
    tile.run();
  }

  static void fold(const Call &call, const Segment &segment, float *states, int64_t count) {
    const int64_t rows = segment.rows(), width = padded(call.cache.head_size);
    const int64_t floats = (State::floats(rows, width) + 15) / 16 * 16;
    const State total(states, rows);
    for (int64_t i = 1; i < count; ++i) merge(total, State(states + i * floats, rows), rows, width);
    write(call, segment, total, width);
  }

 private:
  Tile(const Call &call, const Segment &segment, const Segment *next, char *scratch)
      : call_(call), cache_(call.cache), segment_(segment), next_(next), rows_(segment.rows()),
        head_size_(call.cache.head_size), width_(padded(head_size_)), left_width_(width_ / PAIR * E::LEFT_STEP),
        first_key_(segment.first_key(call.window)), end_key_(segment.end_key()) {
    const auto take = [&scratch](int64_t bytes) {
      char *taken = scratch;
      scratch += (bytes + 63) / 64 * 64;
      return taken;
    };
    q_ = reinterpret_cast<Left *>(take(TILE_ROWS * width_ * 4));
    scores_ = reinterpret_cast<float *>(take(TILE_ROWS * STEP_TOKENS * 4));
    weights_ = reinterpret_cast<Left *>(take(TILE_ROWS * STEP_TOKENS * 4));
    scales_ = reinterpret_cast<float *>(take(TILE_ROWS * 4));
    total_ = reinterpret_cast<float *>(take(State::floats(TILE_ROWS, width_) * 4));
    chunk_ = reinterpret_cast<float *>(take(State::floats(TILE_ROWS, width_) * 4));
    own_keys_ = reinterpret_cast<T *>(take(STEP_TOKENS * width_ * 4));
    own_values_ = reinterpret_cast<T *>(take(STEP_TOKENS * width_ * 4));
    zeros_ = reinterpret_cast<T *>(take(LANE_TOKENS * width_ * 4));
  }

  void run() {
    std::memset(zeros_, 0, LANE_TOKENS * width_ * sizeof(T));
    take_queries();
    const bool is_shared = segment_.partial >= 0;
    const int64_t floats = (State::floats(rows_, width_) + 15) / 16 * 16;
    float *place = is_shared ? call_.partials + int64_t(segment_.partial) * 16 : total_;
    const State first(place, rows_);
    for (int64_t chunk = segment_.chunk_begin; chunk < segment_.chunk_end; ++chunk) {
      if (chunk == segment_.chunk_begin) {
        run_chunk(first, chunk);
      } else if (segment_.has_first) {
        const State own(chunk_, rows_);
        run_chunk(own, chunk);
        merge(first, own, rows_, width_);
      } else {
        place += floats;
        run_chunk(State(place, rows_), chunk);
      }
    }
    if (!is_shared) write(call_, segment_, first, width_);
  }

  void take_queries() {
    const T *from = static_cast<const T *>(call_.q) + segment_.first * call_.q_stride + segment_.head * head_size_;
    Left *to = q_;
    for (int64_t query = 0; query < segment_.queries; ++query, from += call_.q_stride)
      for (int64_t head = 0; head < segment_.heads; ++head, to += left_width_) {
        E::take(from + head * head_size_, to, head_size_);
        if (width_ != head_size_) E::clear(to, head_size_, width_);
      }
  }

  void run_chunk(const State &state, int64_t chunk) {
    for (int64_t r = 0; r < rows_; ++r) state.maximum[r] = MINUS_INFINITY;
    std::memset(state.sums, 0, size_t(rows_ * (LANE_TOKENS + width_)) * 4);
    int64_t begin = chunk * CHUNK_STEPS, end = begin + CHUNK_STEPS;
    const int64_t first = first_key_ / STEP_TOKENS, last = (end_key_ + STEP_TOKENS - 1) / STEP_TOKENS;
    if (begin < first) begin = first;
    if (end > last) end = last;
    for (int64_t step = begin; step < end; ++step) run_step(state, step, step + 1 < last);
  }

  void run_step(const State &state, int64_t step, bool has_next) {
    View<T> here, ahead;
    locate(segment_, step, here);
    const bool fetches = cache_.is_interleaved() && (has_next || next_ != nullptr);
    if (!fetches) ahead = here;
    else if (has_next) locate(segment_, step + 1, ahead);
    else locate(*next_, next_->chunk_begin * CHUNK_STEPS * STEP_TOKENS > next_->first_key(call_.window)
                            ? next_->chunk_begin * CHUNK_STEPS
                            : next_->first_key(call_.window) / STEP_TOKENS, ahead);
    mend(step, here);
    score(here, ahead);
    weigh(state, step * STEP_TOKENS);
    add_values(state, here, ahead);
  }

  // ---- where keys and values lie

  // Groups of a step in the cache; those that none of a segment's queries sees are zeros.
  void locate(const Segment &segment, int64_t step, View<T> &view) const {
    const int64_t first = segment.first_key(call_.window), end = segment.end_key(), size = cache_.block_size;
    const int32_t *table = call_.table + segment.row * call_.table_stride;
    const int64_t kv_head = segment.head / (call_.num_heads / cache_.num_kv_heads);
    const bool is_interleaved = cache_.is_interleaved();
    for (int group = 0; group < STEP_GROUPS; ++group) {
      const int64_t at = step * STEP_TOKENS + group * LANE_TOKENS;
      view.keys[group] = view.values[group] = zeros_;
      if (at >= end || at + LANE_TOKENS <= first || !is_interleaved) continue;
      const int64_t offset = table[at / size] * cache_.block_numbers() + (kv_head * size + at % size) * head_size_;
      view.keys[group] = static_cast<const T *>(cache_.keys) + offset;
      view.values[group] = static_cast<const T *>(cache_.values) + offset;
    }
  }

  // Whatever stands in slots that no query sees must not meet a weight of zero: it may be no number at all.
  void mend(int64_t step, View<T> &view) {
    for (int group = 0; group < STEP_GROUPS; ++group) {
      const int64_t at = step * STEP_TOKENS + group * LANE_TOKENS, end = at + LANE_TOKENS;
      if (at >= end_key_ || end <= first_key_) continue;
      T *values = own_values_ + group * LANE_TOKENS * width_;
      if (!cache_.is_interleaved()) {
        T *keys = own_keys_ + group * LANE_TOKENS * width_;
        interleave(at, keys, values);
        view.keys[group] = keys;
        view.values[group] = values;
      } else if (at < first_key_ || end > end_key_) {
        std::memcpy(values, view.values[group], LANE_TOKENS * width_ * sizeof(T));
        for (int64_t token = 0; token < LANE_TOKENS; ++token)
          if (at + token < first_key_ || at + token >= end_key_)
            for (int64_t d = 0; d < width_; ++d) values[value_at(token, d)] = T(0);
        view.values[group] = values;
      }
    }
  }

  int64_t value_at(int64_t token, int64_t d) const { return (token / PAIR * width_ + d) * PAIR + token % PAIR; }
  static int64_t key_at(int64_t token, int64_t d) { return (d / PAIR * LANE_TOKENS + token) * PAIR + d % PAIR; }

  // 16 tokens from position `at` out of a cache that is not interleaved.
  void interleave(int64_t at, T *keys, T *values) const {
    const int32_t *table = call_.table + segment_.row * call_.table_stride;
    const int64_t kv_head = segment_.head / (call_.num_heads / cache_.num_kv_heads);
    const T *key[LANE_TOKENS], *value[LANE_TOKENS];
    for (int64_t token = 0; token < LANE_TOKENS; ++token) {
      const int64_t position = at + token;
      key[token] = value[token] = zeros_;
      if (position < first_key_ || position >= end_key_) continue;
      const int64_t slot = table[position / cache_.block_size] * cache_.block_size + position % cache_.block_size;
      const int64_t offset = (slot * cache_.num_kv_heads + kv_head) * head_size_;
      key[token] = static_cast<const T *>(cache_.keys) + offset;
      value[token] = static_cast<const T *>(cache_.values) + offset;
    }
    if (width_ != head_size_) {
      std::memset(keys, 0, LANE_TOKENS * width_ * sizeof(T));
      std::memset(values, 0, LANE_TOKENS * width_ * sizeof(T));
    }
    for (int64_t token = 0; token < LANE_TOKENS; ++token) {
      const T *from = key[token];
      T *to = keys + token * PAIR;
      int64_t d = 0;
      for (; d + PAIR <= head_size_; d += PAIR) std::memcpy(to + d * LANE_TOKENS, from + d, PAIR * sizeof(T));
      for (; d < head_size_; ++d) keys[key_at(token, d)] = from[d];
    }
    for (int64_t token = 0; token < LANE_TOKENS; token += PAIR) {
      const T *first = value[token], *second = value[token + PAIR - 1];
      T *to = values + token * width_;
      for (int64_t d = 0; d < head_size_; ++d) {
        to[d * PAIR] = first[d];
        to[d * PAIR + PAIR - 1] = second[d];
      }
    }
  }

  // ---- arithmetic

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

  // Calls body(first, number) for blocks of at most ROWS rows, of like size.
  template <typename Body>
  QUIRE_INLINE void each_block(const Body &body) const {
    const int64_t blocks = (rows_ + ROWS - 1) / ROWS;
    for (int64_t block = 0; block < blocks; ++block) {
      const int64_t first = rows_ * block / blocks;
      body(first, rows_ * (block + 1) / blocks - first);
    }
  }

  void score(const View<T> &view, const View<T> &ahead) const {
    for (int column = 0; column < STEP_VECTORS; column += COLUMNS)
      each_block([&](int64_t row, int64_t count) {
        switch (row == 0 ? count : count + ROWS) {
#define QUIRE_CASE(R) \
  case R: return score_block<R, true>(view, ahead, row, column); \
  case R + ROWS: return score_block<R, false>(view, ahead, row, column);
          QUIRE_CASE(1) QUIRE_CASE(2) QUIRE_CASE(3) QUIRE_CASE(4) QUIRE_CASE(5) QUIRE_CASE(6)
#undef QUIRE_CASE
        }
      });
  }

  template <int R, bool FETCHES>
  void score_block(const View<T> &view, const View<T> &ahead, int64_t row, int column) const {
    const T *right[COLUMNS], *next[COLUMNS];
    for (int c = 0; c < COLUMNS; ++c) {
      const int group = (column + c) / (LANE_TOKENS / LANES), part = (column + c) % (LANE_TOKENS / LANES);
      right[c] = view.keys[group] + part * LANES * PAIR;
      next[c] = ahead.keys[group] + part * LANES * PAIR;
    }
    F sums[R][COLUMNS];
    clear(sums);
    multiply<R, COLUMNS, FETCHES>(sums, q_ + row * left_width_, left_width_, right, next, LANE_TOKENS * PAIR,
                                  width_ / PAIR);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 16
      for (int c = 0; c < COLUMNS; ++c)
        V::store(scores_ + (row + r) * STEP_TOKENS + (column + c) * LANES, sums[r][c]);
  }

  template <int R, int C>
  static QUIRE_INLINE void clear(F (&sums)[R][C]) {
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 16
      for (int c = 0; c < C; ++c) sums[r][c] = V::zero();
  }

  static int64_t clamp(int64_t x, int64_t limit) { return x < 0 ? 0 : x < limit ? x : limit; }

  // Scores of the step that begins at `base` to weights; scales_: by how much what was summed before shrinks.
  void weigh(const State &state, int64_t base) {
    const int64_t position = segment_.position, last = position + segment_.queries - 1;
    const bool is_masked = base + STEP_TOKENS > position + 1 || (call_.window > 0 && base < last + 1 - call_.window);
    for (int64_t query = 0, row = 0; query < segment_.queries; ++query) {
      const int64_t at = position + query;
      const int64_t end = clamp(at + 1 - base, STEP_TOKENS);
      const int64_t begin = call_.window > 0 ? clamp(at + 1 - call_.window - base, STEP_TOKENS) : 0;
      for (int64_t head = 0; head < segment_.heads; ++head, ++row)
        weigh_row(state, row, is_masked, begin, end);
    }
  }

  QUIRE_INLINE void weigh_row(const State &state, int64_t row, bool is_masked, int64_t begin, int64_t end) {
    F x[STEP_VECTORS];
    const F scale = V::set(call_.soft_cap > 0 ? call_.scale : call_.scale * LOG2_E);
#pragma GCC unroll 16
    for (int v = 0; v < STEP_VECTORS; ++v)
      x[v] = V::mul(V::load(scores_ + row * STEP_TOKENS + v * LANES), scale);
    if (call_.soft_cap > 0)
#pragma GCC unroll 16
      for (int v = 0; v < STEP_VECTORS; ++v) x[v] = V::mul(capped(x[v]), V::set(LOG2_E));
    if (is_masked)
#pragma GCC unroll 16
      for (int v = 0; v < STEP_VECTORS; ++v)
        x[v] = V::keep(x[v], clamp(begin - v * LANES, LANES), clamp(end - v * LANES, LANES));
    F top = x[0];
#pragma GCC unroll 16
    for (int v = 1; v < STEP_VECTORS; ++v) top = V::max(top, x[v]);
    const float before = state.maximum[row], here = V::max_lane(top);
    const float maximum = here > before ? here : before;
    const float shift = maximum == MINUS_INFINITY ? 0.0f : maximum;
    const F scaling = V::exp2(V::set(before - shift));
    state.maximum[row] = maximum;
    scales_[row] = V::first(scaling);
#pragma GCC unroll 16
    for (int v = 0; v < STEP_VECTORS; ++v) x[v] = V::exp2(V::sub(x[v], V::set(shift)));
    E::put(weights_ + row * (STEP_GROUPS * LEFT_GROUP), x);
#pragma GCC unroll 16
    for (int stride = STEP_VECTORS / 2; stride > 0; stride /= 2)
      for (int v = 0; v < stride; ++v) x[v] = V::add(x[v], x[v + stride]);
    float *sums = state.sums + row * LANE_TOKENS;
    V::store(sums, V::fma(V::load(sums), scaling, x[0]));
  }

  // cap * tanh(x / cap)
  QUIRE_INLINE F capped(F x) const {
    const F cap = V::set(call_.soft_cap), one = V::set(1.0f);
    const F power = V::exp2(V::mul(x, V::set(2.0f * LOG2_E / call_.soft_cap)));
    return V::mul(cap, V::sub(one, V::div(V::set(2.0f), V::add(power, one))));
  }

  void add_values(const State &state, const View<T> &view, const View<T> &ahead) const {
    const int64_t vectors = width_ / LANES;
    int64_t column = 0;
    for (; column + COLUMNS <= vectors; column += COLUMNS) add_columns<COLUMNS>(state, view, ahead, column);
    for (; column < vectors; ++column) add_columns<1>(state, view, ahead, column);
  }

  template <int C>
  void add_columns(const State &state, const View<T> &view, const View<T> &ahead, int64_t column) const {
    each_block([&](int64_t row, int64_t count) {
      switch (row == 0 ? count : count + ROWS) {
#define QUIRE_CASE(R) \
  case R: return add_block<R, C, true>(state, view, ahead, row, column); \
  case R + ROWS: return add_block<R, C, false>(state, view, ahead, row, column);
        QUIRE_CASE(1) QUIRE_CASE(2) QUIRE_CASE(3) QUIRE_CASE(4) QUIRE_CASE(5) QUIRE_CASE(6)
#undef QUIRE_CASE
      }
    });
  }

  template <int R, int C, bool FETCHES>
  void add_block(const State &state, const View<T> &view, const View<T> &ahead, int64_t row, int64_t column) const {
    float *values = state.values + row * width_ + column * LANES;
    F sums[R][C];
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const F scaling = V::set(scales_[row + r]);
#pragma GCC unroll 16
      for (int c = 0; c < C; ++c) sums[r][c] = V::mul(V::load(values + r * width_ + c * LANES), scaling);
    }
    for (int group = 0; group < STEP_GROUPS; ++group) {
      const T *right[C], *next[C];
#pragma GCC unroll 16
      for (int c = 0; c < C; ++c) {
        right[c] = view.values[group] + (column + c) * LANES * PAIR;
        next[c] = ahead.values[group] + (column + c) * LANES * PAIR;
      }
      multiply<R, C, FETCHES>(sums, weights_ + row * (STEP_GROUPS * LEFT_GROUP) + group * LEFT_GROUP,
                              STEP_GROUPS * LEFT_GROUP, right, next, width_ * PAIR, LANE_TOKENS / PAIR);
    }
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 16
      for (int c = 0; c < C; ++c) V::store(values + r * width_ + c * LANES, sums[r][c]);
  }

  // ---- results

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

  static QUIRE_INLINE void mix(float *to, const float *from, F keep, F add, int64_t count) {
    for (int64_t i = 0; i < count; i += LANES)
      V::store(to + i, V::fma(V::load(to + i), keep, V::mul(V::load(from + i), add)));
  }

  static void write(const Call &call, const Segment &segment, const State &state, int64_t width) {
    const int64_t head_size = call.cache.head_size;
    for (int64_t query = 0, row = 0; query < segment.queries; ++query)
      for (int64_t head = 0; head < segment.heads; ++head, ++row) {
        const int64_t at = (segment.first + query) * call.num_heads + segment.head + head;
        const F share = V::set(1.0f / V::sum_lanes(V::load(state.sums + row * LANE_TOKENS)));
        float *values = state.values + row * width;
        // Adding zero turns a negative zero into a positive one: which it is may depend on the chunks seen.
        for (int64_t d = 0; d < width; d += LANES)
          V::store(values + d, V::add(V::mul(V::load(values + d), share), V::zero()));
        E::narrow(values, static_cast<T *>(call.out) + at * head_size, head_size);
      }
  }

  const Call &call_;
  const Cache &cache_;
  const Segment &segment_;
  const Segment *next_;
  const int64_t rows_, head_size_, width_, left_width_, first_key_, end_key_;
  Left *q_, *weights_;
  float *scores_, *scales_, *total_, *chunk_;
  T *own_keys_, *own_values_, *zeros_;
};

template <typename V, typename Bf16, typename F16, typename F32>
constexpr Kernels kernels() {
  return {{Tile<V, Bf16>::compute, Tile<V, F16>::compute, Tile<V, F32>::compute},
          {Tile<V, Bf16>::fold, Tile<V, F16>::fold, Tile<V, F32>::fold}};
}

}  // namespace
}  // namespace quire::attention

#undef QUIRE_INLINE
