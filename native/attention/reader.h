// Where a step's keys and values lie in the blocks, and copies of them where they do not lie as the products want them:
// interleaved out of blocks that are not, without what no query sees, and widened once for many rows.
//
// Not here: what is computed with them (products.h).
#pragma once

#include <cstring>

#include "attention/products.h"
#include "attention/transpose.h"

namespace quire::attention {
namespace {

// A thread's memory for copies; `zeros` are 16 tokens.
struct Copies {
  char *keys, *values;            // a step's, as they are stored
  char *wide_keys, *wide_values;  // widened
  float *key_scales, *value_scales;
  char *zeros;
};

template <typename V, typename E>
class Reader {
  using T = typename E::T;
  using Wide = typename E::Wide;
  using WideT = typename Wide::T;
  static constexpr int LANES = V::LANES, PAIR = E::PAIR;

 public:
  Reader(const Call &call, const Segment &segment, const Copies &copies)
      : call_(call), cache_(call.cache), segment_(segment), copies_(copies), head_size_(call.cache.head_size),
        width_(padded(head_size_)), first_key_(segment.first_key(call.window)), end_key_(segment.end_key()) {
    std::memset(copies.zeros, 0, size_t(LANE_TOKENS * width_ * 4));
  }

  int64_t first_step() const { return first_key_ / STEP_TOKENS; }
  int64_t end_step() const { return (end_key_ + STEP_TOKENS - 1) / STEP_TOKENS; }

  // Groups of a step in the cache; those that none of a segment's queries sees are zeros.
  void locate(const Segment &segment, int64_t step, View<T> &view) const {
    const int64_t first = segment.first_key(call_.window), end = segment.end_key();
    const int32_t *table = call_.table + segment.row * call_.table_stride;
    const int64_t kv_head = kv_head_of(segment);
    const char *keys = static_cast<const char *>(cache_.keys), *values = static_cast<const char *>(cache_.values);
    for (int group = 0; group < STEP_GROUPS; ++group) {
      const int64_t at = step * STEP_TOKENS + group * LANE_TOKENS;
      view.keys[group] = view.values[group] = zeros<T>();
      view.key_scales[group] = view.value_scales[group] = zeros<float>();
      if (at >= end || at + LANE_TOKENS <= first || !cache_.is_interleaved()) continue;
      const int64_t slot = table[at / cache_.block_size] * cache_.block_size + at % cache_.block_size;
      const int64_t offset = cache_.group_at(slot, kv_head);
      view.keys[group] = reinterpret_cast<const T *>(keys + offset);
      view.values[group] = reinterpret_cast<const T *>(values + offset);
      if constexpr (E::HAS_SCALES) {
        const int64_t scales = cache_.scales_at(slot, kv_head);
        view.key_scales[group] = reinterpret_cast<const float *>(keys + scales);
        view.value_scales[group] = reinterpret_cast<const float *>(values + scales);
      }
    }
  }

  // Whatever stands in slots that no query sees must not meet a weight of zero: it may be no number at all.
  void mend(int64_t step, View<T> &view) const {
    for (int group = 0; group < STEP_GROUPS; ++group) {
      const int64_t at = step * STEP_TOKENS + group * LANE_TOKENS, end = at + LANE_TOKENS;
      if (at >= end_key_ || end <= first_key_) continue;
      if (!cache_.is_interleaved()) interleave(at, group, view);
      else if (at < first_key_ || end > end_key_) clear_unseen(at, group, view);
    }
  }

  // The step's groups from `begin` to `end`, widened. `ahead`: what to fetch meanwhile, or nullptr.
  View<WideT> widen(const View<T> &view, const View<T> *ahead, int begin, int end) const {
    View<WideT> wide;
    for (int group = 0; group < STEP_GROUPS; ++group) {
      wide.keys[group] = wide.values[group] = zeros<WideT>();
      wide.key_scales[group] = view.key_scales[group];
      wide.value_scales[group] = view.value_scales[group];
      if (group < begin || group >= end) continue;
      WideT *keys = reinterpret_cast<WideT *>(copies_.wide_keys) + group * LANE_TOKENS * width_;
      WideT *values = reinterpret_cast<WideT *>(copies_.wide_values) + group * LANE_TOKENS * width_;
      widen(view.keys[group], ahead == nullptr ? nullptr : ahead->keys[group], keys, width_ / PAIR, LANE_TOKENS);
      widen(view.values[group], ahead == nullptr ? nullptr : ahead->values[group], values, LANE_TOKENS / PAIR, width_);
      wide.keys[group] = keys;
      wide.values[group] = values;
    }
    return wide;
  }

 private:
  template <typename X>
  const X *zeros() const { return reinterpret_cast<const X *>(copies_.zeros); }
  int64_t kv_head_of(const Segment &segment) const { return segment.head / (call_.num_heads / cache_.num_kv_heads); }
  bool is_seen(int64_t position) const { return position >= first_key_ && position < end_key_; }

  // [lines][length][PAIR] to a wider type
  static void widen(const T *from, const T *ahead, WideT *to, int64_t lines, int64_t length) {
    for (int64_t line = 0; line < lines; ++line, from += length * PAIR, to += length * PAIR) {
      for (int64_t i = 0; i < length; i += LANES) E::widen(E::load(from + i * PAIR), to, i, length);
      if (ahead == nullptr) continue;
      for (int64_t i = 0; i < length * PAIR; i += 64 / int64_t(sizeof(T))) __builtin_prefetch(ahead + i, 0, 2);
      ahead += length * PAIR;
    }
  }

  void clear_unseen(int64_t at, int group, View<T> &view) const {
    T *values = reinterpret_cast<T *>(copies_.values) + group * LANE_TOKENS * width_;
    std::memcpy(values, view.values[group], size_t(LANE_TOKENS * width_) * sizeof(T));
    for (int64_t token = 0; token < LANE_TOKENS; ++token)
      if (!is_seen(at + token))
        for (int64_t d = 0; d < width_; ++d) values[(token / PAIR * width_ + d) * PAIR + token % PAIR] = T(0);
    view.values[group] = values;
    if constexpr (E::HAS_SCALES) {
      float *scales = copies_.value_scales + group * LANE_TOKENS;
      for (int64_t token = 0; token < LANE_TOKENS; ++token)
        scales[token] = is_seen(at + token) ? view.value_scales[group][token] : 0.0f;
      view.value_scales[group] = scales;
    }
  }

  // 16 tokens from position `at` out of a cache that is not interleaved.
  void interleave(int64_t at, int group, View<T> &view) const {
    const int32_t *table = call_.table + segment_.row * call_.table_stride;
    const int64_t kv_head = kv_head_of(segment_);
    T *keys = reinterpret_cast<T *>(copies_.keys) + group * LANE_TOKENS * width_;
    T *values = reinterpret_cast<T *>(copies_.values) + group * LANE_TOKENS * width_;
    const char *key[LANE_TOKENS], *value[LANE_TOKENS];
    for (int64_t token = 0; token < LANE_TOKENS; ++token) {
      const int64_t position = at + token;
      key[token] = value[token] = copies_.zeros;
      if (!is_seen(position)) continue;
      const int64_t slot = table[position / cache_.block_size] * cache_.block_size + position % cache_.block_size;
      key[token] = static_cast<const char *>(cache_.keys) + cache_.row_at(slot, kv_head);
      value[token] = static_cast<const char *>(cache_.values) + cache_.row_at(slot, kv_head);
    }
    if (width_ != head_size_) {
      std::memset(keys, 0, size_t(LANE_TOKENS * width_) * sizeof(T));
      std::memset(values, 0, size_t(LANE_TOKENS * width_) * sizeof(T));
    }
    interleave_keys<sizeof(T), PAIR>(key, reinterpret_cast<char *>(keys), head_size_);
    interleave_values<sizeof(T), PAIR>(value, reinterpret_cast<char *>(values), head_size_, width_);
    view.keys[group] = keys;
    view.values[group] = values;
    if constexpr (E::HAS_SCALES) {
      float *key_scales = copies_.key_scales + group * LANE_TOKENS;
      float *value_scales = copies_.value_scales + group * LANE_TOKENS;
      for (int64_t token = 0; token < LANE_TOKENS; ++token) {
        std::memcpy(key_scales + token, key[token] + head_size_, 4);
        std::memcpy(value_scales + token, value[token] + head_size_, 4);
      }
      view.key_scales[group] = key_scales;
      view.value_scales[group] = value_scales;
    }
  }

  const Call &call_;
  const Cache &cache_;
  const Segment &segment_;
  const Copies &copies_;
  const int64_t head_size_, width_, first_key_, end_key_;
};

}  // namespace
}  // namespace quire::attention
