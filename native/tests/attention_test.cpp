// Attention over paged keys and values, cut in all ways.
#include <algorithm>
#include <initializer_list>

#include "attention/attention.h"
#include "attention/schedule.h"
#include "attention/write.h"
#include "tests/check.h"

namespace quire::tests {

namespace {

using namespace quire::attention;

const Kernels &kernels_in_use() {
  static const Kernels *const tables[] = QUIRE_TABLES(kernels);
  return *kernels_for(tables);
}

struct Layout {
  Kind kind;
  int64_t block_size, head_size, num_heads, num_kv_heads, window;
  float soft_cap;
};

struct Lengths {
  int64_t count, length;  // new tokens, and all of the sequence
};

// Sequences with all their queries, keys and values; blocks of the cache are dealt out backwards.
class Paged {
 public:
  Paged(const Layout &layout, std::vector<Lengths> rows, Numbers &numbers)
      : layout_(layout), rows_(std::move(rows)), starts_{0} {
    for (const Lengths &row : rows_) {
      starts_.push_back(starts_.back() + row.length);
      widest_ = std::max(widest_, (row.length + layout.block_size - 1) / layout.block_size);
    }
    const int64_t tokens = starts_.back(), kv = layout.num_kv_heads * layout.head_size;
    q = Array(layout.kind, tokens * layout.num_heads * layout.head_size, numbers, -2, 2);
    keys_ = Array(layout.kind, tokens * kv, numbers);
    values_ = Array(layout.kind, tokens * kv, numbers);
    const int64_t num_blocks = widest_ * int64_t(rows_.size()) + 1;
    // What no token was written to is no number.
    key_cache_ = value_cache_ = Array(layout.kind, num_blocks * layout.block_size * kv);
    for (int64_t i = 0; i < num_blocks * layout.block_size * kv; ++i) {
      key_cache_.set(i, NAN);
      value_cache_.set(i, NAN);
    }
    std::vector<int64_t> slots;
    for (size_t row = 0; row < rows_.size(); ++row)
      for (int64_t i = 0; i < widest_; ++i) table_.push_back(int32_t(num_blocks - 1 - int64_t(row) * widest_ - i));
    for (size_t row = 0; row < rows_.size(); ++row)
      for (int64_t t = 0; t < rows_[row].length; ++t)
        slots.push_back(table_[row * size_t(widest_) + size_t(t / layout.block_size)] * layout.block_size +
                        t % layout.block_size);
    const NewTokens all = {keys_.at(0), values_.at(0), kv, kv, slots.data(), tokens};
    for (int64_t head = 0; head < layout.num_kv_heads; ++head) write(cache(), all, head, 0, tokens);
  }

  // The result of the rows' last `count` tokens, of rows first..last, shared out among so many threads.
  Array attend(size_t first, size_t last, int64_t num_threads) {
    std::vector<int64_t> starts = {0}, lengths;
    const int64_t token = layout_.num_heads * layout_.head_size;
    for (size_t row = first; row < last; ++row) {
      starts.push_back(starts.back() + rows_[row].count);
      lengths.push_back(rows_[row].length);
    }
    Array asked(layout_.kind, starts.back() * token), out(layout_.kind, starts.back() * token);
    for (size_t row = first; row < last; ++row)
      std::memcpy(asked.at(starts[row - first] * token),
                  q.at((starts_[row] + rows_[row].length - rows_[row].count) * token),
                  size_t(rows_[row].count * token * q.size()));
    const attention::Rows rows = {int64_t(last - first), starts.data(), lengths.data()};
    const attention::Shape shape = {layout_.num_heads, layout_.num_kv_heads, layout_.head_size, layout_.window};
    std::vector<int64_t> memory(size_t(Schedule::bytes(rows, shape, num_threads) / 8 + 1));
    Schedule::make(memory.data(), rows, shape, num_threads);
    Schedule &schedule = *reinterpret_cast<Schedule *>(memory.data());
    std::vector<float> partials(size_t(schedule.partial_lines * 16 + 16));
    std::vector<char> scratch(size_t(scratch_bytes(layout_.head_size) + 64));
    const auto aligned = [](void *at) { return (reinterpret_cast<uintptr_t>(at) + 63) / 64 * 64; };
    const Call call = {cache(), asked.at(0), token, out.at(0), layout_.num_heads, table_.data() + first * size_t(widest_),
                       widest_, layout_.window, scale(), layout_.soft_cap,
                       reinterpret_cast<float *>(aligned(partials.data()))};
    const Type type = cache().type;
    for (int32_t i = 0; i < schedule.num_segments; ++i)
      kernels_in_use().compute[type](call, schedule.segments()[i],
                                     i + 1 < schedule.num_segments ? &schedule.segments()[i + 1] : nullptr,
                                     reinterpret_cast<char *>(aligned(scratch.data())));
    for (int32_t i = 0; i < schedule.num_folds; ++i) {
      const Fold &fold = schedule.folds()[i];
      kernels_in_use().fold[type](call, schedule.segments()[fold.segment], call.partials + int64_t(fold.partial) * 16,
                                  fold.count);
    }
    is_shared |= schedule.num_folds > 0;
    return out;
  }

  // The largest distance of a row's result from float64, in parts of the largest value that there can be.
  double distance(size_t row, const Array &out) const {
    const int64_t count = rows_[row].count, length = rows_[row].length, size = layout_.head_size;
    double worst = 0;
    for (int64_t query = 0; query < count; ++query)
      for (int64_t head = 0; head < layout_.num_heads; ++head) {
        const int64_t position = length - count + query, kv_head = head / (layout_.num_heads / layout_.num_kv_heads);
        const int64_t first = layout_.window > 0 ? std::max<int64_t>(0, position + 1 - layout_.window) : 0;
        std::vector<double> mean(static_cast<size_t>(size));
        double total = 0;
        for (int64_t at = first; at <= position; ++at) {
          const int64_t kv = ((starts_[row] + at) * layout_.num_kv_heads + kv_head) * size;
          double score = 0;
          for (int64_t d = 0; d < size; ++d)
            score += q.get(((starts_[row] + position) * layout_.num_heads + head) * size + d) * keys_.get(kv + d);
          score *= double(scale());
          if (layout_.soft_cap > 0) score = layout_.soft_cap * std::tanh(score / layout_.soft_cap);
          const double weight = std::exp(score);
          total += weight;
          for (int64_t d = 0; d < size; ++d) mean[size_t(d)] += weight * values_.get(kv + d);
        }
        for (int64_t d = 0; d < size; ++d) {
          const double found = out.get((query * layout_.num_heads + head) * size + d);
          const double off = std::fabs(found - mean[size_t(d)] / total);
          worst = off >= 0 && off <= worst ? worst : off == off ? off : INFINITY;
        }
      }
    return worst;
  }

  void take_new(size_t row, int64_t count) { rows_[row].count = count; }

  Array q{Kind::F32, 0};
  bool is_shared = false;

 private:
  float scale() const { return 1.0f / std::sqrt(float(layout_.head_size)); }
  Cache cache() {
    const Type type = layout_.kind == Kind::F32 ? F32 : layout_.kind == Kind::BF16 ? BF16 : F16;
    return {key_cache_.at(0), value_cache_.at(0), layout_.block_size, layout_.num_kv_heads, layout_.head_size, type};
  }

  Layout layout_;
  std::vector<Lengths> rows_;
  std::vector<int64_t> starts_;
  int64_t widest_ = 0;
  std::vector<int32_t> table_;
  Array keys_{Kind::F32, 0}, values_{Kind::F32, 0}, key_cache_{Kind::F32, 0}, value_cache_{Kind::F32, 0};
};

void check_layout(Report &report, const Layout &layout, Numbers &numbers) {
  const std::vector<Lengths> rows = {{1, 1}, {5, 70}, {40, 130}, {1, 1100}};
  Paged paged(layout, rows, numbers);
  const int64_t token = layout.num_heads * layout.head_size;
  const Array whole = paged.attend(0, rows.size(), 1);
  const auto tell = [&](bool holds, const char *what, size_t row) {
    report.expect(holds, "%s, blocks of %lld, heads %lld/%lld of %lld, window %lld, cap %g, row %zu: %s",
                  name_of(layout.kind), (long long)layout.block_size, (long long)layout.num_heads,
                  (long long)layout.num_kv_heads, (long long)layout.head_size, (long long)layout.window,
                  double(layout.soft_cap), row, what);
  };
  const double bound = layout.kind == Kind::F32 ? 1e-5 : layout.kind == Kind::F16 ? 1e-3 : 8e-3;
  int64_t start = 0;
  for (size_t row = 0; row < rows.size(); ++row) {
    const int64_t numbers_of_row = rows[row].count * token;
    const Array own = paged.attend(row, row + 1, 1);
    tell(paged.distance(row, own) <= bound, "differs from float64", row);
    tell(own.same(0, whole, start, numbers_of_row), "alone it has other bits", row);
    tell(paged.attend(row, row + 1, 5) == own, "shared among five threads it has other bits", row);
    paged.take_new(row, 1);
    const Array final = paged.attend(row, row + 1, 1);
    tell(final.same(0, own, numbers_of_row - token, token), "its last token alone has other bits", row);
    paged.take_new(row, rows[row].count);
    start += numbers_of_row;
  }
  tell(paged.attend(0, rows.size(), 7) == whole, "shared among seven threads all have other bits", 0);
  tell(paged.is_shared || layout.window > 0, "no sequence was cut among threads", 0);
}

}  // namespace

void check_attention(Report &report) {
  Numbers numbers(4);
  for (const Kind kind : KINDS) {
    check_layout(report, {kind, 16, 64, 4, 2, 0, 0}, numbers);
    check_layout(report, {kind, 32, 80, 3, 1, 20, 0}, numbers);
    check_layout(report, {kind, 16, 40, 2, 2, 0, 5}, numbers);
    check_layout(report, {kind, 8, 64, 4, 4, 100, 5}, numbers);
    check_layout(report, {kind, 16, 128, 6, 1, 0, 0}, numbers);
  }
}

}  // namespace quire::tests
