// Types whose numbers become float32 on their way to the products, over any vectors V; and types of queries and results.
//
// V gives, beside arithmetic, LANES or twice as many numbers of a type: load_f16, load_bf16, load_fp8, load_int8; and
// PAIR_COLUMNS and COLUMNS, how many vectors of sums beside each other its registers hold.
#pragma once

#include "attention/tile.h"

namespace quire::attention {
namespace {

// What all have in common: the left side is float32.
template <typename V>
struct LeftF32 {
  using F = typename V::F;
  using Left = float;
  static constexpr bool HAS_SCALES = false;
  static inline void clear(float *to, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) to[i] = 0.0f;
  }
  static QUIRE_INLINE void put(float *to, const F *x, int vectors) {
#pragma GCC unroll 16
    for (int v = 0; v < vectors; ++v) V::store(to + v * V::LANES, x[v]);
  }
};

template <typename V>
struct PlainF32 : LeftF32<V> {
  using F = typename V::F;
  using T = float;
  using Right = F;
  using Wide = PlainF32;
  static constexpr int PAIR = 1, LEFT_STEP = 1, COLUMNS = V::COLUMNS;

  static inline F load(const float *at) { return V::load(at); }
  static inline F factor(const float *x) { return V::set(*x); }
  static inline F dot(F sum, F right, F left) { return V::fma(right, left, sum); }
  static inline void widen(F x, float *to, int64_t i, int64_t) { V::store(to + i, x); }
};

template <typename V>
struct WidenedF16 : PlainF32<V> {
  using T = uint16_t;
  using Wide = PlainF32<V>;
  static inline typename V::F load(const uint16_t *at) { return V::load_f16(at); }
};

// Two neighbours of each lane.
template <typename V>
struct Two {
  typename V::F even, odd;
};

template <typename V>
struct WidenedPairs : LeftF32<V> {
  using F = typename V::F;
  using Right = Two<V>;
  using Wide = PlainF32<V>;
  static constexpr int PAIR = 2, LEFT_STEP = 2, COLUMNS = V::PAIR_COLUMNS;

  static inline const float *factor(const float *x) { return x; }
  static inline F dot(F sum, const Right &right, const float *left) {
    return V::fma(right.odd, V::set(left[1]), V::fma(right.even, V::set(left[0]), sum));
  }
  static inline void widen(const Right &x, float *to, int64_t i, int64_t length) {
    V::store(to + i, x.even);
    V::store(to + length + i, x.odd);
  }
};

template <typename V>
struct WidenedBf16 : WidenedPairs<V> {
  using T = uint16_t;
  static inline Two<V> load(const uint16_t *at) { return V::load_bf16(at); }
};

template <typename V>
struct WidenedFp8 : WidenedPairs<V> {
  using T = uint8_t;
  static inline Two<V> load(const uint8_t *at) { return V::load_fp8(at); }
};

template <typename V>
struct WidenedInt8 : WidenedPairs<V> {
  using T = uint8_t;
  static constexpr bool HAS_SCALES = true;
  static inline Two<V> load(const uint8_t *at) { return V::load_int8(at); }
};

struct QueriesBf16 {
  using T = uint16_t;
  static inline void take(const uint16_t *from, float *to, int64_t count) {
    for (int64_t i = 0; i < count; ++i) to[i] = from_bf16(from[i]);
  }
  static inline void narrow(const float *from, uint16_t *to, int64_t count) {
    for (int64_t i = 0; i < count; ++i) to[i] = to_bf16(from[i]);
  }
};

template <typename V>
struct QueriesF16 {
  using T = uint16_t;
  static inline void take(const uint16_t *from, float *to, int64_t count) {
    int64_t i = 0;
    for (; i + V::LANES <= count; i += V::LANES) V::store(to + i, V::load_f16(from + i));
    for (; i < count; ++i) to[i] = from_f16(from[i]);
  }
  static inline void narrow(const float *from, uint16_t *to, int64_t count) {
    int64_t i = 0;
    for (; i + V::LANES <= count; i += V::LANES) V::store_f16(to + i, V::load(from + i));
    for (; i < count; ++i) to[i] = to_f16(from[i]);
  }
};

struct QueriesF32 {
  using T = float;
  static inline void take(const float *from, float *to, int64_t count) { std::memcpy(to, from, size_t(count) * 4); }
  static inline void narrow(const float *from, float *to, int64_t count) { std::memcpy(to, from, size_t(count) * 4); }
};

// Bf16, Fp8, Int8: what serves bfloat16 queries QBf16 with keys of each type; the others are widened.
template <typename V, typename Bf16, typename Fp8, typename Int8, typename QBf16>
constexpr Kernels kernels() {
  using F16 = QueriesF16<V>;
  using F32 = QueriesF32;
  return {{Tile<V, Bf16, QBf16>::compute, Tile<V, WidenedF16<V>, F16>::compute, Tile<V, PlainF32<V>, F32>::compute,
           Tile<V, Fp8, QBf16>::compute, Tile<V, WidenedFp8<V>, F16>::compute, Tile<V, WidenedFp8<V>, F32>::compute,
           Tile<V, Int8, QBf16>::compute, Tile<V, WidenedInt8<V>, F16>::compute, Tile<V, WidenedInt8<V>, F32>::compute},
          {Tile<V, Bf16, QBf16>::fold, Tile<V, WidenedF16<V>, F16>::fold, Tile<V, PlainF32<V>, F32>::fold,
           Tile<V, Fp8, QBf16>::fold, Tile<V, WidenedFp8<V>, F16>::fold, Tile<V, WidenedFp8<V>, F32>::fold,
           Tile<V, Int8, QBf16>::fold, Tile<V, WidenedInt8<V>, F16>::fold, Tile<V, WidenedInt8<V>, F32>::fold},
          {fp8_of<FromBf16>, fp8_of<FromF16>, fp8_of<FromF32>},
          {int8_of<FromBf16>, int8_of<FromF16>, int8_of<FromF32>}};
}

template <typename V>
constexpr Kernels kernels_widened() {
  return kernels<V, WidenedBf16<V>, WidenedFp8<V>, WidenedInt8<V>, QueriesBf16>();
}

}  // namespace
}  // namespace quire::attention

#undef QUIRE_INLINE
