#include "attention/write.h"

#include <cstring>

namespace quire::attention {

namespace {

typedef uint32_t Words __attribute__((vector_size(16)));
typedef uint16_t Halves __attribute__((vector_size(16)));

template <typename X>
inline X load(const void *at) {
  X x;
  std::memcpy(&x, at, sizeof x);
  return x;
}

template <typename X>
inline void store(void *at, X x) {
  std::memcpy(at, &x, sizeof x);
}

// Words 0..count of four neighbouring tokens, into columns of 16.
inline void transpose_four(const char *const (&from)[4], char *to, int64_t count) {
  int64_t i = 0;
  for (; i + 4 <= count; i += 4) {
    const Words a = load<Words>(from[0] + i * 4), b = load<Words>(from[1] + i * 4);
    const Words c = load<Words>(from[2] + i * 4), d = load<Words>(from[3] + i * 4);
    const Words ab_low = __builtin_shuffle(a, b, Words{0, 4, 1, 5}), ab_high = __builtin_shuffle(a, b, Words{2, 6, 3, 7});
    const Words cd_low = __builtin_shuffle(c, d, Words{0, 4, 1, 5}), cd_high = __builtin_shuffle(c, d, Words{2, 6, 3, 7});
    store(to + (i + 0) * 64, __builtin_shuffle(ab_low, cd_low, Words{0, 1, 4, 5}));
    store(to + (i + 1) * 64, __builtin_shuffle(ab_low, cd_low, Words{2, 3, 6, 7}));
    store(to + (i + 2) * 64, __builtin_shuffle(ab_high, cd_high, Words{0, 1, 4, 5}));
    store(to + (i + 3) * 64, __builtin_shuffle(ab_high, cd_high, Words{2, 3, 6, 7}));
  }
}

// Two neighbouring tokens' values side by side.
inline void zip_two(const char *even, const char *odd, char *to, int64_t count) {
  for (int64_t i = 0; i < count; i += 8) {
    const Halves a = load<Halves>(even + i * 2), b = load<Halves>(odd + i * 2);
    store(to + i * 4, __builtin_shuffle(a, b, Halves{0, 8, 1, 9, 2, 10, 3, 11}));
    store(to + i * 4 + 16, __builtin_shuffle(a, b, Halves{4, 12, 5, 13, 6, 14, 7, 15}));
  }
}

template <int SIZE, int PAIR>
class Writer {
 public:
  Writer(const Cache &cache, const NewTokens &tokens, int64_t kv_head)
      : cache_(cache), tokens_(tokens), kv_head_(kv_head), head_size_(cache.head_size) {}

  void run(int64_t first, int64_t last) const {
    if (!cache_.is_interleaved()) {
      for (int64_t t = first; t < last; ++t) {
        const int64_t at = (tokens_.slots[t] * cache_.num_kv_heads + kv_head_) * head_size_ * SIZE;
        std::memcpy(static_cast<char *>(cache_.keys) + at, key(t), size_t(head_size_ * SIZE));
        std::memcpy(static_cast<char *>(cache_.values) + at, value(t), size_t(head_size_ * SIZE));
      }
      return;
    }
    for (int64_t t = first; t < last;) t += PAIR * SIZE == 4 && is_run(t, 4, last) ? four(t) : one(t);
  }

 private:
  const char *key(int64_t t) const {
    return static_cast<const char *>(tokens_.keys) + (t * tokens_.key_stride + kv_head_ * head_size_) * SIZE;
  }
  const char *value(int64_t t) const {
    return static_cast<const char *>(tokens_.values) + (t * tokens_.value_stride + kv_head_ * head_size_) * SIZE;
  }

  // Tokens t..t + count fill neighbouring slots, the first a multiple of count.
  bool is_run(int64_t t, int64_t count, int64_t last) const {
    const int64_t slot = tokens_.slots[t];
    if (t + count > last || slot % count != 0) return false;
    for (int64_t i = 1; i < count; ++i)
      if (tokens_.slots[t + i] != slot + i) return false;
    return true;
  }

  // In numbers: where the 16 tokens lie that a slot belongs to.
  int64_t group(int64_t slot) const {
    const int64_t within = slot % cache_.block_size / LANE_TOKENS * LANE_TOKENS;
    return slot / cache_.block_size * cache_.block_numbers() + (kv_head_ * cache_.block_size + within) * head_size_;
  }

  int64_t one(int64_t t) const {
    const int64_t slot = tokens_.slots[t], base = group(slot), token = slot % cache_.block_size % LANE_TOKENS;
    constexpr int UNIT = SIZE * PAIR;
    const char *from = key(t);
    char *to = static_cast<char *>(cache_.keys) + base * SIZE + token * UNIT;
    for (int64_t i = 0; i < head_size_ / PAIR; ++i) std::memcpy(to + i * LANE_TOKENS * UNIT, from + i * UNIT, UNIT);
    from = value(t);
    to = static_cast<char *>(cache_.values) + (base + token / PAIR * PAIR * head_size_ + token % PAIR) * SIZE;
    if (PAIR == 1) std::memcpy(to, from, size_t(head_size_ * SIZE));
    else
      for (int64_t d = 0; d < head_size_; ++d) std::memcpy(to + d * PAIR * SIZE, from + d * SIZE, SIZE);
    return 1;
  }

  int64_t four(int64_t t) const {
    const int64_t slot = tokens_.slots[t], base = group(slot), token = slot % cache_.block_size % LANE_TOKENS;
    const char *const from[4] = {key(t), key(t + 1), key(t + 2), key(t + 3)};
    transpose_four(from, static_cast<char *>(cache_.keys) + base * SIZE + token * 4, head_size_ / PAIR);
    char *to = static_cast<char *>(cache_.values) + (base + token * head_size_) * SIZE;
    for (int64_t i = 0; i < 4; i += PAIR, to += PAIR * head_size_ * SIZE) {
      if (PAIR == 2) zip_two(value(t + i), value(t + i + 1), to, head_size_);
      else std::memcpy(to, value(t + i), size_t(head_size_ * SIZE));
    }
    return 4;
  }

  const Cache &cache_;
  const NewTokens &tokens_;
  const int64_t kv_head_, head_size_;
};

}  // namespace

void write(const Cache &cache, const NewTokens &tokens, int64_t kv_head, int64_t first, int64_t last) {
  switch (cache.type) {
    case BF16: return Writer<2, 2>(cache, tokens, kv_head).run(first, last);
    case F16: return Writer<2, 1>(cache, tokens, kv_head).run(first, last);
    default: return Writer<4, 1>(cache, tokens, kv_head).run(first, last);
  }
}

}  // namespace quire::attention
