// One token drawn from one row of logits, without sorting the row.
//
// Temperature, min-p, top-k and top-p each keep a beginning of one line: tokens in falling order of value, of equal ones
// the lower id first. So all that is looked for is the last token of the line that stays; then the line's beginning is
// drawn from in the order of ids. Sums are made in double precision, in an order that depends on the row alone.
#pragma once

#include <algorithm>

#include "rows.h"
#include "simd.h"

namespace {

constexpr int64_t BLOCK = 4 * LANES;

// Values are sorted into bins a sixteenth wide, counted from the largest value; the last is open. Weights in one bin
// differ by 6 % at most.
constexpr int32_t BINS = 512;

constexpr int64_t blocks_of(int64_t size) { return (size + BLOCK - 1) / BLOCK; }

// A place in the line. Its order is that of `key`, falling.
struct Place {
  uint64_t key;
  float weight;
};

QUIRE_INLINE bool stands_before(const Place &a, const Place &b) { return a.key > b.key; }

// Rises with the value (0 and -0 are one), and for equal values falls with the id.
QUIRE_INLINE uint64_t key_of(float value, int64_t id) {
  const uint32_t bits = bit_cast<uint32_t>(value + 0.0f);
  const uint32_t rising = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
  return uint64_t(rising) << 32 | (0xffffffffu - uint32_t(id));
}
QUIRE_INLINE int64_t id_of(uint64_t key) { return 0xffffffffu - uint32_t(key); }
QUIRE_INLINE float value_of(uint64_t key) {
  const uint32_t rising = uint32_t(key >> 32);
  return bit_cast<float>(rising & 0x80000000u ? rising & 0x7fffffffu : ~rising);
}

// A row of logits as blocks of 64, the last filled up with minus infinity, and what is kept about them.
class Line {
 public:
  Line(const float *logits, int64_t size, void *scratch) : logits_(logits), size_(size), blocks_(blocks_of(size)) {
    sums_ = static_cast<double *>(scratch);
    tops_ = reinterpret_cast<float *>(sums_ + blocks_);
    places_ = reinterpret_cast<Place *>(tops_ + blocks_ + (blocks_ & 1));
    for (int64_t i = 0; i < BLOCK; ++i)
      last_[i] = (blocks_ - 1) * BLOCK + i < size ? logits[(blocks_ - 1) * BLOCK + i] : -INFINITY;
    top_ = -INFINITY;
    for (int64_t block = 0; block < blocks_; ++block) {
      const Float32 *x = at(block);
      tops_[block] = largest_of(
          larger(larger(load(x), load(x + LANES)), larger(load(x + 2 * LANES), load(x + 3 * LANES))));
      top_ = tops_[block] > top_ ? tops_[block] : top_;
    }
  }

  // Values become (x - largest) / temperature.
  void divide(float temperature) {
    shift_ = top_;
    temperature_ = temperature;
    for (int64_t block = 0; block < blocks_; ++block) tops_[block] = value(tops_[block]);
    top_ = 0.0f;
  }

  // Values become (x - largest) - offset.
  void lower(float offset) {
    shift_ = top_;
    offset_ = offset;
    for (int64_t block = 0; block < blocks_; ++block) tops_[block] = value(tops_[block]);
    top_ = -offset;
  }

  float top() const { return top_; }

  template <typename Number>
  QUIRE_INLINE_MEMBER Number value(Number x) const {
    if (temperature_ != 1.0f) return (x - shift_) / temperature_;
    return shift_ == 0.0f && offset_ == 0.0f ? x : (x - shift_) - offset_;
  }

  // The sum of exp(value - largest) over values from `floor` on, and how it is spread over bins of values.
  double weigh(float floor, double (&masses)[BINS]) const {
    for (double &mass : masses) mass = 0.0;
    for (int64_t block = 0; block < blocks_; ++block) {
      if (tops_[block] < floor) continue;
      float weights[BLOCK];
      int32_t bins[BLOCK];
      for (int64_t part = 0; part < BLOCK; part += LANES) {
        const Floats v = value(load(at(block) + part));
        const Floats w = v < floor ? Floats{} : exp_of(v - top_);
        const Ints b = bin_of(v);
        std::memcpy(weights + part, &w, sizeof(w));
        std::memcpy(bins + part, &b, sizeof(b));
      }
      for (int64_t i = 0; i < BLOCK; ++i) masses[bins[i]] += weights[i];
    }
    double total = 0.0;
    for (const double mass : masses) total += mass;
    return total;
  }

  // Of values from `floor` on, and of one bin where `bin` is not -1, the places in the line, in the order of ids.
  int64_t gather(float floor, int32_t bin = -1) {
    int64_t count = 0;
    for (int64_t block = 0; block < blocks_; ++block) {
      if (tops_[block] < floor || (bin >= 0 && bin_of(all(tops_[block]))[0] > bin)) continue;
      float values[BLOCK], weights[BLOCK];
      int32_t bins[BLOCK];
      for (int64_t part = 0; part < BLOCK; part += LANES) {
        const Floats v = value(load(at(block) + part)), w = exp_of(v - top_);
        const Ints b = bin_of(v);
        std::memcpy(values + part, &v, sizeof(v));
        std::memcpy(weights + part, &w, sizeof(w));
        std::memcpy(bins + part, &b, sizeof(b));
      }
      const int64_t first = block * BLOCK, end = size_ - first < BLOCK ? size_ - first : BLOCK;
      for (int64_t i = 0; i < end; ++i)
        if (values[i] >= floor && (bin < 0 || bins[i] == bin)) places_[count++] = {key_of(values[i], first + i), weights[i]};
    }
    return count;
  }

  // The sum of exp(value - largest) over all.
  double total_weight() const {
    double total = 0.0;
    for (int64_t block = 0; block < blocks_; ++block) total += block_sum(block, -INFINITY, size_);
    return total;
  }

  float value_at(int64_t id) const { return value(logits_[id]); }

  // How many values are greater.
  int64_t count_above(float bound) const {
    int64_t count = 0;
    for (int64_t block = 0; block < blocks_; ++block) {
      if (!(tops_[block] > bound)) continue;
      Ints found = {};
      for (int64_t part = 0; part < BLOCK; part += LANES) found -= value(load(at(block) + part)) > bound;
      for (int lane = 0; lane < LANES; ++lane) count += found[lane];
    }
    return count;
  }

  // The first `count` places, sorted.
  const Place *sorted(int64_t count) {
    const int64_t found = first(count, -INFINITY);
    std::sort(places_, places_ + found, [](const Place &a, const Place &b) { return stands_before(a, b); });
    return places_;
  }

  // A floor at or under the value of place `count`: as many blocks have a value from it on.
  float floor_of(int64_t count) {
    if (count > blocks_) return -INFINITY;
    for (int64_t block = 0; block < blocks_; ++block) places_[block] = {key_of(tops_[block], block), 0.0f};
    std::nth_element(places_, places_ + (count - 1), places_ + blocks_, [](const Place &a, const Place &b) {
      return stands_before(a, b);
    });
    return value_of(places_[count - 1].key);
  }

  // The first `count` places from `floor` on, in no order; the number of them.
  int64_t first(int64_t count, float floor) {
    const float enough = floor_of(count);
    const int64_t found = gather(enough > floor ? enough : floor);
    if (found <= count) return found;
    std::nth_element(places_, places_ + (count - 1), places_ + found, [](const Place &a, const Place &b) {
      return stands_before(a, b);
    });
    return count;
  }

  double sum_of_places(int64_t count) const {
    double sum = 0.0;
    for (int64_t i = 0; i < count; ++i) sum += places_[i].weight;
    return sum;
  }

  // Of the first `count` places, the last that the line needs for its mass, with `above` before them, to reach `mass`;
  // each weight is divided by `total`. Halves what is left until it is short enough to be sorted. Changes `above` to the
  // mass up to that place: less than `mass` when all of them are needed and do not suffice.
  uint64_t key_at_mass(double mass, float total, int64_t count, double *above) {
    const auto before = [](const Place &a, const Place &b) { return stands_before(a, b); };
    Place *begin = places_, *end = places_ + count;
    while (end - begin > BLOCK) {
      Place *middle = begin + (end - begin) / 2;
      std::nth_element(begin, middle, end, before);
      double half = 0.0;
      for (const Place *place = begin; place < middle; ++place) half += place->weight / total;
      if (*above + half >= mass) {
        end = middle;
      } else {
        *above += half;
        begin = middle;
      }
    }
    std::sort(begin, end, before);
    for (;; ++begin) {
      *above += begin->weight / total;
      if (*above >= mass || begin + 1 >= end) return begin->key;
    }
  }

  uint64_t lowest_key(int64_t count) const {
    uint64_t lowest = ~uint64_t(0);
    for (int64_t i = 0; i < count; ++i) lowest = places_[i].key < lowest ? places_[i].key : lowest;
    return lowest;
  }

  // The token at a uniform number in [0, 1) among those up to the border: the first at which the sum of weights in the
  // order of ids exceeds the number's share of the total.
  int64_t token_at(double uniform, float border, int64_t border_id) {
    double total = 0.0;
    for (int64_t block = 0; block < blocks_; ++block) {
      sums_[block] = tops_[block] < border ? 0.0 : block_sum(block, border, border_id);
      total += sums_[block];
    }
    double target = uniform * total;
    const double below_total = std::nextafter(total, 0.0);
    target = target < below_total ? target : below_total;
    double sum = 0.0;
    int64_t found = -1;
    for (int64_t block = 0; block < blocks_; ++block) {
      if (sums_[block] == 0.0) continue;
      if (sum + sums_[block] <= target) {
        sum += sums_[block];
        continue;
      }
      float weights[BLOCK];
      block_weights(block, border, border_id, weights);
      for (int64_t i = 0; i < BLOCK; ++i) {
        if (weights[i] == 0.0f) continue;
        found = block * BLOCK + i;  // The last one stays where rounding puts the block's own sum under the target.
        sum += weights[i];
        if (sum > target) break;
      }
      return found;
    }
    return found;
  }

 private:
  QUIRE_INLINE_MEMBER const Float32 *at(int64_t block) const {
    return reinterpret_cast<const Float32 *>(block + 1 == blocks_ ? last_ : logits_ + block * BLOCK);
  }

  // Weights of those at or before the border, 0 for the others.
  QUIRE_INLINE_MEMBER Floats part_weights(int64_t block, int64_t part, float border, int64_t border_id) const {
    const Ints lanes = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    const Floats v = value(load(at(block) + part));
    const Ints ids = lanes + int32_t(block * BLOCK + part);
    const Ints stays = (v > border) | ((v == border) & (ids <= int32_t(border_id)));
    return stays ? exp_of(v - top_) : Floats{};
  }

  QUIRE_INLINE_MEMBER Ints bin_of(Floats v) const {
    const Floats distance = (top_ - v) * 16.0f;
    return __builtin_convertvector(distance < float(BINS - 1) ? distance : all(float(BINS - 1)), Ints);
  }

  double block_sum(int64_t block, float border, int64_t border_id) const {
    Doubles sum = {};
    for (int64_t part = 0; part < BLOCK; part += LANES) sum += paired(part_weights(block, part, border, border_id));
    return sum_of(sum);
  }

  void block_weights(int64_t block, float border, int64_t border_id, float *weights) const {
    for (int64_t part = 0; part < BLOCK; part += LANES) {
      const Floats w = part_weights(block, part, border, border_id);
      std::memcpy(weights + part, &w, sizeof(w));
    }
  }

  const float *logits_;
  int64_t size_, blocks_;
  float top_, shift_ = 0.0f, temperature_ = 1.0f, offset_ = 0.0f;
  double *sums_;
  float *tops_;
  Place *places_;
  alignas(64) float last_[BLOCK];
};

// Where top-p ends a line that begins at the top and has no values under `floor`.
uint64_t key_by_mass(Line &line, double top_p, float floor) {
  double masses[BINS];
  const float total = float(line.weigh(floor, masses));
  double above = 0.0;
  int32_t bin = 0;
  // The bins' sums are not rounded as single weights are; so the first bin that may hold the place is looked into.
  while (bin + 1 < BINS && above + masses[bin] / total < top_p - 1e-6) above += masses[bin++] / total;
  uint64_t key = 0;
  for (; bin < BINS; ++bin) {
    const int64_t count = masses[bin] > 0.0 || bin + 1 == BINS ? line.gather(floor, bin) : 0;
    if (count > 0) key = line.key_at_mass(top_p, total, count, &above);
    if (above >= top_p) break;
  }
  return key;
}

int64_t draw(const float *logits, int64_t size, const quire::DrawColumn &asked, double uniform, void *scratch) {
  Line line(logits, size, scratch);
  if (asked.temperature != 1.0f) line.divide(asked.temperature);
  float border = line.top() + asked.log_min_p;
  int64_t border_id = size, count = -1;
  if (asked.top_k > 0 && asked.top_k < size) {
    count = line.first(asked.top_k, border);
    const uint64_t key = line.lowest_key(count);
    border = value_of(key);
    border_id = id_of(key);
  }
  if (asked.top_p < 1.0) {
    double above = 0.0;
    const uint64_t key =
        count < 0 ? key_by_mass(line, asked.top_p, border)
                  : line.key_at_mass(asked.top_p, float(line.sum_of_places(count)), count, &above);
    border = value_of(key);
    border_id = id_of(key);
  }
  return line.token_at(uniform, border, border_id);
}

void logprobs(const float *logits, int64_t size, const quire::LogprobsAsked &asked, int64_t own_id,
              const quire::Logprob *out_end, quire::Logprob *out, void *scratch) {
  Line line(logits, size, scratch);
  line.lower(float(std::log(line.total_weight())));
  const auto of = [&line](int64_t id) {
    const float value = line.value_at(id);
    return quire::Logprob{id, value, 1 + line.count_above(value)};
  };
  *out++ = of(own_id);
  for (int64_t i = 0; i < asked.num_named; ++i) *out++ = of(asked.named[i]);
  const int64_t num_top = out_end - out;
  if (num_top == 0) return;
  const Place *places = line.sorted(num_top);
  for (int64_t i = 0; i < num_top; ++i) {
    const float value = value_of(places[i].key);
    const bool is_equal = i > 0 && value == out[-1].value;
    const int64_t rank = is_equal ? out[-1].rank : i + 1;
    *out++ = {id_of(places[i].key), value, rank};
  }
}

}  // namespace

