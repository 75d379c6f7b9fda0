#include "attention/schedule.h"

namespace quire::attention {

namespace {

constexpr int64_t PIECES_PER_THREAD = 4;
// What a step of keys costs besides the arithmetic of its rows: it is read from memory.
constexpr int64_t STEP_COST = 12;
// Below this many (steps x cost x head size) a second thread costs more than it gains.
constexpr int64_t LEAST_PARALLEL_COST = 16 * (STEP_COST + 1) * 128;

// All chunks of a tile, and what they cost.
struct Item {
  Segment segment;
  int64_t step_begin, step_end;

  int64_t cost_of(int64_t begin, int64_t end) const { return (end - begin) * (segment.rows() + STEP_COST); }
  int64_t cost() const { return cost_of(step_begin, step_end + 1); }
  int64_t chunk_cost(int64_t chunk) const {
    const int64_t begin = chunk * CHUNK_STEPS, end = begin + CHUNK_STEPS;
    return cost_of(begin > step_begin ? begin : step_begin, end < step_end ? end : step_end);
  }
};

inline int64_t at_most(int64_t x, int64_t limit) { return x < limit ? x : limit; }

// Calls body(item) for every tile of every row; tiles that share keys come after each other.
template <typename Body>
void each_item(const Rows &rows, const Shape &shape, const Body &body) {
  const int64_t shared = shape.num_heads / shape.num_kv_heads;
  const int64_t tile_heads = at_most(shared, TILE_ROWS), tile_queries = TILE_ROWS / tile_heads;
  Item item;
  Segment &segment = item.segment;
  segment.has_first = 1;
  segment.partial = -1;
  for (int64_t row = 0; row < rows.count; ++row) {
    const int64_t start = rows.starts[row], count = rows.starts[row + 1] - start;
    const int64_t position = rows.lengths[row] - count;
    // Tiles of like size: 50 queries are 25 + 25 and not 48 + 2.
    const int64_t tiles = (count + tile_queries - 1) / tile_queries;
    segment.row = int32_t(row);
    for (int64_t head = 0; head < shape.num_heads; head += segment.heads) {
      segment.head = int32_t(head);
      segment.heads = int32_t(at_most(tile_heads, shared - head % shared));
      for (int64_t tile = 0; tile < tiles; ++tile) {
        const int64_t begin = count * tile / tiles, end = count * (tile + 1) / tiles;
        segment.first = int32_t(start + begin);
        segment.position = int32_t(position + begin);
        segment.queries = int32_t(end - begin);
        item.step_begin = segment.first_key(shape.window) / STEP_TOKENS;
        item.step_end = (segment.end_key() + STEP_TOKENS - 1) / STEP_TOKENS;
        segment.chunk_begin = int32_t(item.step_begin / CHUNK_STEPS);
        segment.chunk_end = int32_t((item.step_end + CHUNK_STEPS - 1) / CHUNK_STEPS);
        body(static_cast<const Item &>(item));
      }
    }
  }
}

// Deals items out to pieces. A cut falls between items, or between the chunks of an item that costs much of a piece.
class Cutter {
 public:
  Cutter(Schedule &schedule, const Shape &shape, int64_t total, int64_t num_pieces)
      : schedule_(schedule), width_(padded(shape.head_size)), total_(total), num_pieces_(num_pieces) {
    schedule_.pieces()[0] = 0;
  }

  void take(const Item &item) {
    const Segment &whole = item.segment;
    if (item.cost() * num_pieces_ * 2 <= total_ || whole.chunk_end - whole.chunk_begin == 1) {
      put(whole, whole.chunk_begin, whole.chunk_end, -1);
      done_ += item.cost();
      if (is_full()) close();
      return;
    }
    const int64_t lines = (State::floats(whole.rows(), width_) + 15) / 16, partial = schedule_.partial_lines;
    int64_t parts = 0;
    for (int32_t chunk = whole.chunk_begin, begin = chunk; chunk < whole.chunk_end; ++chunk) {
      done_ += item.chunk_cost(chunk);
      const bool is_last = chunk + 1 == whole.chunk_end;
      if (!is_last && !is_full()) continue;
      const bool has_all = is_last && begin == whole.chunk_begin;
      put(whole, begin, chunk + 1, has_all ? -1 : int32_t(partial + parts * lines));
      if (!has_all) parts += begin == whole.chunk_begin ? 1 : chunk + 1 - begin;
      if (is_full()) close();
      begin = chunk + 1;
    }
    done_ += item.cost_of(0, 1);
    if (parts == 0) return;
    schedule_.partial_lines += parts * lines;
    schedule_.folds()[schedule_.num_folds++] = {schedule_.num_segments - 1, int32_t(partial), int32_t(parts)};
  }

  void finish() {
    if (schedule_.pieces()[schedule_.num_pieces] < schedule_.num_segments) close();
  }

 private:
  bool is_full() const { return done_ * num_pieces_ >= total_ * next_; }

  void put(const Segment &whole, int32_t begin, int32_t end, int32_t partial) {
    Segment &segment = schedule_.segments()[schedule_.num_segments++];
    segment = whole;
    segment.has_first = begin == whole.chunk_begin;
    segment.chunk_begin = begin;
    segment.chunk_end = end;
    segment.partial = partial;
  }

  void close() {
    schedule_.pieces()[++schedule_.num_pieces] = schedule_.num_segments;
    while (is_full()) ++next_;
  }

  Schedule &schedule_;
  const int64_t width_, total_, num_pieces_;
  int64_t done_ = 0, next_ = 1;
};

}  // namespace

int64_t Schedule::bytes(const Rows &rows, const Shape &shape, int64_t num_threads) {
  int64_t items = 0;
  each_item(rows, shape, [&](const Item &) { ++items; });
  const int64_t pieces = num_threads * PIECES_PER_THREAD;
  return int64_t(sizeof(Schedule)) + (pieces + 1) * int64_t(sizeof(int32_t)) +
         (items + pieces) * int64_t(sizeof(Segment)) + pieces * int64_t(sizeof(Fold));
}

void Schedule::make(void *memory, const Rows &rows, const Shape &shape, int64_t num_threads) {
  Schedule &schedule = *static_cast<Schedule *>(memory);
  schedule = Schedule{};
  int64_t total = 0, items = 0;
  each_item(rows, shape, [&](const Item &item) {
    total += item.cost();
    ++items;
  });
  schedule.cost = total;
  schedule.num_pieces_at_most = num_threads * PIECES_PER_THREAD;
  schedule.num_segments_at_most = items + schedule.num_pieces_at_most;
  const bool is_alone = num_threads == 1 || total * shape.head_size < LEAST_PARALLEL_COST;
  schedule.num_threads = is_alone ? 1 : int32_t(num_threads);
  Cutter cutter(schedule, shape, total, is_alone ? 1 : schedule.num_pieces_at_most);
  each_item(rows, shape, [&](const Item &item) { cutter.take(item); });
  cutter.finish();
}

}  // namespace quire::attention
