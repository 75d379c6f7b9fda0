// The kernel: rows of a tile (queries x heads) over the keys of one KV head, step by step.
//
// Included by one file for each instruction set with its own vectors and types (products.h); everything is in that
// file's anonymous namespace.
//
// Not here: who computes which tile (schedule.h).
#pragma once

#include "attention/eight_bits.h"
#include "attention/reader.h"
#include "attention/softmax.h"

namespace quire::attention {
namespace {

// Q: what queries and results are. E: what keys and values are.
template <typename V, typename E, typename Q>
class Tile {
  using F = typename V::F;
  using T = typename E::T;
  using Wide = typename E::Wide;
  using Left = typename E::Left;
  // From so many rows on keys and values are widened once, and not once for each block of rows.
  static constexpr bool CAN_WIDEN = sizeof(typename Wide::T) != sizeof(T);

 public:
  static void compute(const Call &call, const Segment &segment, const Segment *next, char *scratch) {
    Tile tile(call, segment, next, Memory(scratch, padded(call.cache.head_size)));
    tile.run();
  }

  static void fold(const Call &call, const Segment &segment, float *states, int64_t count) {
    const int64_t rows = segment.rows(), width = padded(call.cache.head_size);
    const int64_t floats = (State::floats(rows, width) + 15) / 16 * 16;
    const State total(states, rows);
    for (int64_t i = 1; i < count; ++i) Softmax<V, E>::merge(total, State(states + i * floats, rows), rows, width);
    write(call, segment, total, width);
  }

 private:
  // A thread's memory, dealt out.
  struct Memory {
    Left *q;
    Work<Left> work;
    float *total, *chunk;
    Copies copies;

    Memory(char *at, int64_t width) {
      const auto take = [&at](int64_t numbers) {
        char *taken = at;
        at += (numbers * 4 + 63) / 64 * 64;
        return taken;
      };
      q = reinterpret_cast<Left *>(take(TILE_ROWS * width));
      work.scores = reinterpret_cast<float *>(take(TILE_ROWS * STEP_TOKENS));
      work.weights = reinterpret_cast<Left *>(take(TILE_ROWS * STEP_TOKENS));
      work.tops = reinterpret_cast<float *>(take(TILE_ROWS));
      work.scales = reinterpret_cast<float *>(take(TILE_ROWS));
      total = reinterpret_cast<float *>(take(State::floats(TILE_ROWS, width)));
      chunk = reinterpret_cast<float *>(take(State::floats(TILE_ROWS, width)));
      copies.keys = take(STEP_TOKENS * width);
      copies.values = take(STEP_TOKENS * width);
      copies.wide_keys = take(STEP_TOKENS * width);
      copies.wide_values = take(STEP_TOKENS * width);
      copies.key_scales = reinterpret_cast<float *>(take(STEP_TOKENS));
      copies.value_scales = reinterpret_cast<float *>(take(STEP_TOKENS));
      copies.zeros = take(LANE_TOKENS * width + LANE_TOKENS);
    }
  };

  Tile(const Call &call, const Segment &segment, const Segment *next, const Memory &memory)
      : call_(call), segment_(segment), next_(next), memory_(memory), reader_(call, segment, memory_.copies),
        softmax_(call, segment, memory_.work), rows_(segment.rows()), width_(padded(call.cache.head_size)),
        num_blocks_((rows_ + BLOCK_ROWS - 1) / BLOCK_ROWS) {
    for (int64_t block = 0; block < num_blocks_; ++block) {
      const int64_t first = rows_ * block / num_blocks_;
      blocks_[block] = {int32_t(first), int32_t(rows_ * (block + 1) / num_blocks_ - first), 0, STEP_GROUPS};
    }
  }

  void run() {
    take_queries();
    const bool is_shared = segment_.partial >= 0;
    const int64_t floats = (State::floats(rows_, width_) + 15) / 16 * 16;
    float *place = is_shared ? call_.partials + int64_t(segment_.partial) * 16 : memory_.total;
    const State first(place, rows_);
    for (int64_t chunk = segment_.chunk_begin; chunk < segment_.chunk_end; ++chunk) {
      if (chunk == segment_.chunk_begin) {
        run_chunk(first, chunk);
      } else if (segment_.has_first) {
        const State own(memory_.chunk, rows_);
        run_chunk(own, chunk);
        Softmax<V, E>::merge(first, own, rows_, width_);
      } else {
        place += floats;
        run_chunk(State(place, rows_), chunk);
      }
    }
    if (!is_shared) write(call_, segment_, first, width_);
  }

  void take_queries() const {
    const int64_t head_size = call_.cache.head_size, left_width = width_ / E::PAIR * E::LEFT_STEP;
    const auto *from = static_cast<const typename Q::T *>(call_.q) + segment_.first * call_.q_stride +
                       segment_.head * head_size;
    Left *to = memory_.q;
    for (int64_t query = 0; query < segment_.queries; ++query, from += call_.q_stride)
      for (int64_t head = 0; head < segment_.heads; ++head, to += left_width) {
        Q::take(from + head * head_size, to, head_size);
        if (width_ != head_size) E::clear(to, head_size, width_);
      }
  }

  void run_chunk(const State &state, int64_t chunk) {
    for (int64_t r = 0; r < rows_; ++r) state.maximum[r] = MINUS_INFINITY;
    std::memset(state.sums, 0, size_t(rows_ * LANE_TOKENS) * 4);
    int64_t begin = chunk * CHUNK_STEPS, end = begin + CHUNK_STEPS;
    if (begin < reader_.first_step()) begin = reader_.first_step();
    if (end > reader_.end_step()) end = reader_.end_step();
    for (int64_t step = begin; step < end; ++step) run_step(state, step, step == begin);
  }

  void run_step(const State &state, int64_t step, bool is_first) {
    View<T> here, next;
    reader_.locate(segment_, step, here);
    const View<T> *ahead = locate_next(step, next) ? &next : nullptr;
    reader_.mend(step, here);
    if (CAN_WIDEN && num_blocks_ > 1) {
      limit_blocks(step, false);
      const View<typename Wide::T> wide =
          reader_.widen(here, ahead, blocks_[0].group_begin, blocks_[num_blocks_ - 1].group_end);
      compute_step<Wide>(state, step, is_first, wide, nullptr);
    } else {
      limit_blocks(step, ahead != nullptr);
      compute_step<E>(state, step, is_first, here, ahead);
    }
  }

  // What is needed after a step; false where there is nothing to fetch.
  bool locate_next(int64_t step, View<T> &next) const {
    if (!call_.cache.is_interleaved()) return false;
    if (step + 1 < reader_.end_step()) {
      reader_.locate(segment_, step + 1, next);
      return true;
    }
    if (next_ == nullptr) return false;
    const int64_t begin = next_->chunk_begin * CHUNK_STEPS, seen = next_->first_key(call_.window) / STEP_TOKENS;
    reader_.locate(*next_, begin > seen ? begin : seen, next);
    return true;
  }

  // Which groups each block of rows sees. The last block computes all of them where it fetches while computing.
  void limit_blocks(int64_t step, bool fetches) {
    for (int64_t block = 0; block < num_blocks_; ++block) {
      RowBlock &rows = blocks_[block];
      const int64_t first = segment_.position + rows.first / segment_.heads - step * STEP_TOKENS;
      const int64_t last = segment_.position + (rows.first + rows.count - 1) / segment_.heads - step * STEP_TOKENS;
      rows.group_begin = call_.window > 0 ? int32_t(clamp((first + 1 - call_.window) / LANE_TOKENS, STEP_GROUPS)) : 0;
      rows.group_end = int32_t(clamp((last + LANE_TOKENS) / LANE_TOKENS, STEP_GROUPS));
    }
    if (fetches) blocks_[num_blocks_ - 1].group_begin = 0, blocks_[num_blocks_ - 1].group_end = STEP_GROUPS;
  }

  // X is E or what it is widened to.
  template <typename X>
  void compute_step(const State &state, int64_t step, bool is_first, const View<typename X::T> &view,
                    const View<typename X::T> *ahead) const {
    const int64_t last = num_blocks_ - 1;
    for (int64_t block = 0; block < num_blocks_; ++block)
      Products<V, X>::score(memory_.q, width_, view, block == last ? ahead : nullptr, blocks_[block],
                            memory_.work.scores);
    softmax_.weigh(state, step * STEP_TOKENS, view, blocks_, num_blocks_);
    for (int64_t block = 0; block < num_blocks_; ++block) {
      const RowBlock &rows = blocks_[block];
      if (!rows.is_blind() || is_first)
        Products<V, X>::add(memory_.work.weights, width_, view, block == last ? ahead : nullptr, rows,
                            is_first ? nullptr : memory_.work.scales, state.values);
    }
  }

  static void write(const Call &call, const Segment &segment, const State &state, int64_t width) {
    const int64_t head_size = call.cache.head_size;
    for (int64_t query = 0, row = 0; query < segment.queries; ++query)
      for (int64_t head = 0; head < segment.heads; ++head, ++row) {
        const int64_t at = (segment.first + query) * call.num_heads + segment.head + head;
        const F share = V::set(1.0f / V::sum_lanes(V::load(state.sums + row * LANE_TOKENS)));
        float *values = state.values + row * width;
        // Adding zero turns a negative zero into a positive one: which it is may depend on the chunks seen.
        for (int64_t d = 0; d < width; d += V::LANES)
          V::store(values + d, V::add(V::mul(V::load(values + d), share), V::zero()));
        Q::narrow(values, static_cast<typename Q::T *>(call.out) + at * head_size, head_size);
      }
  }

  const Call &call_;
  const Segment &segment_;
  const Segment *next_;
  const Memory memory_;
  const Reader<V, E> reader_;
  const Softmax<V, E> softmax_;
  const int64_t rows_, width_, num_blocks_;
  RowBlock blocks_[TILE_BLOCKS];
};

}  // namespace
}  // namespace quire::attention
