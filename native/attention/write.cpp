#include "attention/write.h"

#include <cstring>

#include "attention/transpose.h"

namespace quire::attention {

namespace {

// A plane of a cache: keys or values. SIZE and PAIR are those of its numbers.
template <int SIZE, int PAIR>
class Writer {
 public:
  Writer(const Cache &cache, int64_t kv_head)
      : cache_(cache), kv_head_(kv_head), head_size_(cache.head_size), is_interleaved_(cache.is_interleaved()) {}

  // Four tokens from a slot that is a multiple of four.
  void put_four(const char *const *keys, const char *const *values, int64_t slot) const {
    const int64_t base = cache_.group_at(slot, kv_head_), token = slot % cache_.block_size % LANE_TOKENS;
    put_four_keys<SIZE, PAIR>(keys, this->keys() + base + token * SIZE * PAIR, head_size_);
    char *to = this->values() + base + token * head_size_ * SIZE;
    for (int64_t i = 0; i < 4; i += PAIR, to += PAIR * head_size_ * SIZE) {
      if constexpr (PAIR == 2) put_two_values<SIZE>(values[i], values[i + 1], to, head_size_);
      else std::memcpy(to, values[i], size_t(head_size_ * SIZE));
    }
  }

  void put(const char *key, const char *value, int64_t slot) const {
    if (!is_interleaved_) {
      std::memcpy(keys() + cache_.row_at(slot, kv_head_), key, size_t(head_size_ * SIZE));
      std::memcpy(values() + cache_.row_at(slot, kv_head_), value, size_t(head_size_ * SIZE));
      return;
    }
    constexpr int UNIT = SIZE * PAIR;
    const int64_t base = cache_.group_at(slot, kv_head_), token = slot % cache_.block_size % LANE_TOKENS;
    char *to = keys() + base + token * UNIT;
    for (int64_t i = 0; i < head_size_ / PAIR; ++i) std::memcpy(to + i * LANE_TOKENS * UNIT, key + i * UNIT, UNIT);
    to = values() + base + (token / PAIR * PAIR * head_size_ + token % PAIR) * SIZE;
    if (PAIR == 1) std::memcpy(to, value, size_t(head_size_ * SIZE));
    else
      for (int64_t d = 0; d < head_size_; ++d) std::memcpy(to + d * PAIR * SIZE, value + d * SIZE, SIZE);
  }

  void put_scales(float key, float value, int64_t slot) const {
    const int64_t at = is_interleaved_
                           ? cache_.scales_at(slot, kv_head_) + slot % cache_.block_size % LANE_TOKENS * 4
                           : cache_.row_at(slot, kv_head_) + head_size_;
    std::memcpy(keys() + at, &key, 4);
    std::memcpy(values() + at, &value, 4);
  }

 private:
  char *keys() const { return static_cast<char *>(cache_.keys); }
  char *values() const { return static_cast<char *>(cache_.values); }

  const Cache &cache_;
  const int64_t kv_head_, head_size_;
  const bool is_interleaved_;
};

// Tokens t..t + 4 before `last` fill neighbouring slots, the first a multiple of four.
bool is_run(const NewTokens &tokens, int64_t t, int64_t last) {
  const int64_t slot = tokens.slots[t];
  if (t + 4 > last || slot % 4 != 0) return false;
  for (int64_t i = 1; i < 4; ++i)
    if (tokens.slots[t + i] != slot + i) return false;
  return true;
}

// Rows of the new tokens, as they came or in eight bits.
class Source {
 public:
  Source(const Cache &cache, const NewTokens &tokens, int64_t kv_head)
      : cache_(cache), tokens_(tokens), kv_head_(kv_head) {}

  // `to`: memory for a row of eight bits. `scale` is written for int8 alone.
  const char *key(int64_t t, uint8_t *to, float *scale) const {
    return row(tokens_.keys, t * tokens_.key_stride, to, scale);
  }
  const char *value(int64_t t, uint8_t *to, float *scale) const {
    return row(tokens_.values, t * tokens_.value_stride, to, scale);
  }

 private:
  const char *row(const void *tensor, int64_t offset, uint8_t *to, float *scale) const {
    const bool is_rounded = cache_.type >= FP8;
    const int64_t size = is_rounded ? (tokens_.type == F32 ? 4 : 2) : cache_.number_bytes();
    const char *from = static_cast<const char *>(tensor) + (offset + kv_head_ * cache_.head_size) * size;
    if (!is_rounded) return from;
    if (cache_.type == FP8) tokens_.kernels->to_fp8[tokens_.type](from, to, cache_.head_size);
    else *scale = tokens_.kernels->to_int8[tokens_.type](from, to, cache_.head_size);
    return reinterpret_cast<const char *>(to);
  }

  const Cache &cache_;
  const NewTokens &tokens_;
  const int64_t kv_head_;
};

template <int SIZE, int PAIR>
void write_as(const Source &source, const Cache &cache, const NewTokens &tokens, int64_t kv_head, int64_t first,
              int64_t last) {
  const Writer<SIZE, PAIR> writer(cache, kv_head);
  uint8_t key_bytes[4][MAX_EIGHT_BIT_HEAD], value_bytes[4][MAX_EIGHT_BIT_HEAD];
  const char *keys[4], *values[4];
  float key_scales[4], value_scales[4];
  for (int64_t t = first; t < last;) {
    const int count = cache.is_interleaved() && SIZE * PAIR <= 4 && is_run(tokens, t, last) ? 4 : 1;
    for (int i = 0; i < count; ++i) {
      keys[i] = source.key(t + i, key_bytes[i], key_scales + i);
      values[i] = source.value(t + i, value_bytes[i], value_scales + i);
    }
    if (count == 4) writer.put_four(keys, values, tokens.slots[t]);
    else writer.put(keys[0], values[0], tokens.slots[t]);
    if (cache.type == INT8)
      for (int i = 0; i < count; ++i) writer.put_scales(key_scales[i], value_scales[i], tokens.slots[t + i]);
    t += count;
  }
}

}  // namespace

void write(const Cache &cache, const NewTokens &tokens, int64_t kv_head, int64_t first, int64_t last) {
  const Source source(cache, tokens, kv_head);
  switch (cache.type) {
    case BF16: return write_as<2, 2>(source, cache, tokens, kv_head, first, last);
    case F16: return write_as<2, 1>(source, cache, tokens, kv_head, first, last);
    case F32: return write_as<4, 1>(source, cache, tokens, kv_head, first, last);
    default: return write_as<1, 2>(source, cache, tokens, kv_head, first, last);
  }
}

}  // namespace quire::attention
