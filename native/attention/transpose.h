// Tokens, each D numbers in a row, to and from the interleaved forms of attention.h.
//
// Rows are read in words of one number's or one pair's size. Included by files of several instruction sets: everything
// is in their anonymous namespaces.
#pragma once

#include <cstdint>
#include <cstring>

#include "attention/attention.h"

namespace quire::attention {
namespace {

typedef uint32_t Words __attribute__((vector_size(16)));
typedef uint16_t Halves __attribute__((vector_size(16)));
typedef uint8_t Bytes __attribute__((vector_size(16)));

template <typename X>
inline X load_as(const void *at) {
  X x;
  std::memcpy(&x, at, sizeof x);
  return x;
}

template <typename X>
inline void store_as(void *at, X x) {
  std::memcpy(at, &x, sizeof x);
}

// Words 0..count of four neighbouring tokens, into columns of 16. Returns how many were done, a multiple of four.
inline int64_t transpose_words(const char *const *from, char *to, int64_t count) {
  int64_t i = 0;
  for (; i + 4 <= count; i += 4) {
    const Words a = load_as<Words>(from[0] + i * 4), b = load_as<Words>(from[1] + i * 4);
    const Words c = load_as<Words>(from[2] + i * 4), d = load_as<Words>(from[3] + i * 4);
    const Words ab_low = __builtin_shuffle(a, b, Words{0, 4, 1, 5});
    const Words ab_high = __builtin_shuffle(a, b, Words{2, 6, 3, 7});
    const Words cd_low = __builtin_shuffle(c, d, Words{0, 4, 1, 5});
    const Words cd_high = __builtin_shuffle(c, d, Words{2, 6, 3, 7});
    store_as(to + (i + 0) * 64, __builtin_shuffle(ab_low, cd_low, Words{0, 1, 4, 5}));
    store_as(to + (i + 1) * 64, __builtin_shuffle(ab_low, cd_low, Words{2, 3, 6, 7}));
    store_as(to + (i + 2) * 64, __builtin_shuffle(ab_high, cd_high, Words{0, 1, 4, 5}));
    store_as(to + (i + 3) * 64, __builtin_shuffle(ab_high, cd_high, Words{2, 3, 6, 7}));
  }
  return i;
}

// Halves of words, that is pairs of bytes, in the same way.
inline int64_t transpose_halves(const char *const *from, char *to, int64_t count) {
  typedef uint64_t Doubles __attribute__((vector_size(16)));
  int64_t i = 0;
  for (; i + 8 <= count; i += 8) {
    const Halves a = load_as<Halves>(from[0] + i * 2), b = load_as<Halves>(from[1] + i * 2);
    const Halves c = load_as<Halves>(from[2] + i * 2), d = load_as<Halves>(from[3] + i * 2);
    const Words ab[2] = {Words(__builtin_shuffle(a, b, Halves{0, 8, 1, 9, 2, 10, 3, 11})),
                         Words(__builtin_shuffle(a, b, Halves{4, 12, 5, 13, 6, 14, 7, 15}))};
    const Words cd[2] = {Words(__builtin_shuffle(c, d, Halves{0, 8, 1, 9, 2, 10, 3, 11})),
                         Words(__builtin_shuffle(c, d, Halves{4, 12, 5, 13, 6, 14, 7, 15}))};
    for (int half = 0; half < 2; ++half) {
      const Doubles low = Doubles(__builtin_shuffle(ab[half], cd[half], Words{0, 4, 1, 5}));
      const Doubles high = Doubles(__builtin_shuffle(ab[half], cd[half], Words{2, 6, 3, 7}));
      char *at = to + (i + half * 4) * 32;
      store_as<uint64_t>(at, low[0]);
      store_as<uint64_t>(at + 32, low[1]);
      store_as<uint64_t>(at + 64, high[0]);
      store_as<uint64_t>(at + 96, high[1]);
    }
  }
  return i;
}

// Four neighbouring tokens' keys, SIZE bytes a number, into the columns that begin at `to`.
template <int SIZE, int PAIR>
inline void put_four_keys(const char *const *from, char *to, int64_t head_size) {
  constexpr int UNIT = SIZE * PAIR;
  const int64_t count = head_size / PAIR;
  int64_t done = 0;
  if constexpr (UNIT == 4) done = transpose_words(from, to, count);
  if constexpr (UNIT == 2) done = transpose_halves(from, to, count);
  for (int64_t i = done; i < count; ++i)
    for (int token = 0; token < 4; ++token)
      std::memcpy(to + (i * LANE_TOKENS + token) * UNIT, from[token] + i * UNIT, UNIT);
  if (PAIR == 2 && head_size % 2 != 0)
    for (int token = 0; token < 4; ++token)
      std::memcpy(to + (count * LANE_TOKENS + token) * UNIT, from[token] + count * UNIT, SIZE);
}

// Two neighbouring tokens' values side by side.
template <int SIZE>
inline void put_two_values(const char *even, const char *odd, char *to, int64_t head_size) {
  int64_t d = 0;
  if constexpr (SIZE == 2)
    for (; d + 8 <= head_size; d += 8) {
      const Halves a = load_as<Halves>(even + d * 2), b = load_as<Halves>(odd + d * 2);
      store_as(to + d * 4, __builtin_shuffle(a, b, Halves{0, 8, 1, 9, 2, 10, 3, 11}));
      store_as(to + d * 4 + 16, __builtin_shuffle(a, b, Halves{4, 12, 5, 13, 6, 14, 7, 15}));
    }
  if constexpr (SIZE == 1)
    for (; d + 16 <= head_size; d += 16) {
      const Bytes a = load_as<Bytes>(even + d), b = load_as<Bytes>(odd + d);
      store_as(to + d * 2, __builtin_shuffle(a, b, Bytes{0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23}));
      store_as(to + d * 2 + 16,
               __builtin_shuffle(a, b, Bytes{8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31}));
    }
  for (; d < head_size; ++d) {
    std::memcpy(to + d * 2 * SIZE, even + d * SIZE, SIZE);
    std::memcpy(to + (d * 2 + 1) * SIZE, odd + d * SIZE, SIZE);
  }
}

// 16 tokens' keys to [D / PAIR][16][PAIR].
template <int SIZE, int PAIR>
inline void interleave_keys(const char *const (&from)[LANE_TOKENS], char *to, int64_t head_size) {
  for (int token = 0; token < LANE_TOKENS; token += 4)
    put_four_keys<SIZE, PAIR>(from + token, to + token * SIZE * PAIR, head_size);
}

// 16 tokens' values to [16 / PAIR][width][PAIR].
template <int SIZE, int PAIR>
inline void interleave_values(const char *const (&from)[LANE_TOKENS], char *to, int64_t head_size, int64_t width) {
  for (int token = 0; token < LANE_TOKENS; token += PAIR) {
    if constexpr (PAIR == 2) put_two_values<SIZE>(from[token], from[token + 1], to + token * width * SIZE, head_size);
    else std::memcpy(to + token * width * SIZE, from[token], size_t(head_size * SIZE));
  }
}

}  // namespace
}  // namespace quire::attention
