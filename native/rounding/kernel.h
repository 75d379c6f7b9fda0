// The one kernel, compiled for each set of instructions: sixteen lanes everywhere, added in one order, so that all give the
// same codes.
#pragma once

#include <cmath>
#include <cstring>

#include "rounding/rounding.h"

namespace quire {
namespace {

// What the registers hold.
#if defined(__AVX512F__)
constexpr int WIDTH = 16;
#elif defined(__AVX2__)
constexpr int WIDTH = 8;
#else
constexpr int WIDTH = 4;
#endif
constexpr int LANES = 16, PARTS = LANES / WIDTH;
using Part = float __attribute__((vector_size(WIDTH * sizeof(float))));
using Wholes = int32_t __attribute__((vector_size(WIDTH * sizeof(int32_t))));
using Bytes = uint8_t __attribute__((vector_size(WIDTH)));

struct Lanes {
  Part parts[PARTS];

  float &operator[](int lane) { return reinterpret_cast<float *>(parts)[lane]; }
};

constexpr float MIDDLE = 8.0f, LARGEST_4 = 15.0f, LARGEST_8 = 127.0f;

template <typename Act>
inline __attribute__((always_inline)) Lanes each_part(const Act &act) {
  Lanes result;
#pragma GCC unroll 4
  for (int part = 0; part < PARTS; ++part) result.parts[part] = act(part);
  return result;
}

inline Lanes all(float x) {
  return each_part([=](int) { return Part{} + x; });
}
inline Lanes operator+(Lanes a, Lanes b) {
  return each_part([&](int part) { return a.parts[part] + b.parts[part]; });
}
inline Lanes operator*(Lanes a, Lanes b) {
  return each_part([&](int part) { return a.parts[part] * b.parts[part]; });
}
inline Lanes operator-(Lanes x) {
  return each_part([&](int part) { return -x.parts[part]; });
}
inline Lanes at_least(Lanes x, Lanes least) {
  return each_part([&](int part) { return x.parts[part] < least.parts[part] ? least.parts[part] : x.parts[part]; });
}
inline Lanes at_most(Lanes x, Lanes most) {
  return each_part([&](int part) { return x.parts[part] > most.parts[part] ? most.parts[part] : x.parts[part]; });
}

// To the nearest whole number, halves to even, for numbers well below 2^22.
inline Lanes rounded(Lanes x) {
  return each_part([&](int part) { return (x.parts[part] + 12582912.0f) - 12582912.0f; });
}

template <typename Fold>
inline float folded(Lanes x, const Fold &fold) {
  for (int half = LANES / 2; half > 0; half /= 2)
    for (int lane = 0; lane < half; ++lane) x[lane] = fold(x[lane], x[lane + half]);
  return x[0];
}
inline float sum(Lanes x) {
  return folded(x, [](float a, float b) { return a + b; });
}
inline float largest(Lanes x) {
  return folded(x, [](float a, float b) { return a < b ? b : a; });
}

inline float reciprocal(float x) { return x == 0.0f ? 0.0f : 1.0f / x; }

// The numbers that share a scale, in whole lanes; behind the last there are noughts.
struct Group {
  const float *x;
  int64_t size;

  template <typename Body>
  void each(const Body &body) const {
    int64_t at = 0;
    for (; at + LANES <= size; at += LANES) {
      Lanes lanes;
      std::memcpy(&lanes, x + at, sizeof lanes);
      body(lanes, at, int64_t(LANES));
    }
    if (at == size) return;
    Lanes lanes = {};
    std::memcpy(&lanes, x + at, size_t(size - at) * sizeof(float));
    body(lanes, at, size - at);
  }
};

inline void put(Lanes codes, uint8_t *to, int64_t count) {
  Bytes bytes[PARTS];
  for (int part = 0; part < PARTS; ++part)
    bytes[part] = __builtin_convertvector(__builtin_convertvector(codes.parts[part], Wholes), Bytes);
  std::memcpy(to, bytes, size_t(count));
}

float round_8(const Group &group, uint8_t *codes) {
  Lanes most = {}, odd = {};
  group.each([&](Lanes x, int64_t, int64_t) {
    most = at_least(at_least(x, -x), most);
    odd = odd + x * all(0.0f);  // not a number where x is none, or infinite: so is the scale then
  });
  const float amax = largest(most);
  const Lanes inverse = all(reciprocal(amax) * LARGEST_8);
  group.each([&](Lanes x, int64_t at, int64_t count) {
    put(at_most(at_least(rounded(x * inverse), all(-LARGEST_8)), all(LARGEST_8)), codes + at, count);
  });
  return amax / LARGEST_8 + sum(odd);
}

// How codes lie: one over the step between them, and the one that means nought.
struct Range {
  float inverse = 0.0f, zero = MIDDLE;

  static Range over(float low, float high, bool has_zeros) {
    Range range;
    if (has_zeros) {
      low = low < 0.0f ? low : 0.0f;
      high = high > 0.0f ? high : 0.0f;
      range.inverse = reciprocal((high - low) / LARGEST_4);
      range.zero = std::nearbyintf(-low * range.inverse);
    } else {
      // The number farthest from nought gets the code farthest from the middle, whatever its sign.
      range.inverse = reciprocal((high > -low ? high : low) / -MIDDLE);
    }
    return range;
  }

  // Codes less the zero point: for each number the nearest there is.
  Lanes distances(Lanes x) const {
    return rounded(at_most(at_least(x * all(inverse), all(-zero)), all(LARGEST_4 - zero)));
  }
};

struct Sums {
  float along, square;

  Sums(const Group &group, const Range &range) {
    Lanes along_lanes = {}, square_lanes = {};
    group.each([&](Lanes x, int64_t, int64_t) {
      const Lanes found = range.distances(x);
      along_lanes = along_lanes + x * found;
      square_lanes = square_lanes + found * found;
    });
    along = sum(along_lanes);
    square = sum(square_lanes);
  }
  // The scale whose squared error is least for these codes, and what it explains of the numbers' sum of squares.
  float scale() const { return along * reciprocal(square); }
  float explained() const { return along * along * reciprocal(square); }
};

float round_4(const Group &group, const Rounding &rounding, uint8_t *codes, uint8_t *zero) {
  Lanes low = all(group.x[0]), high = low;
  group.each([&](Lanes x, int64_t, int64_t count) {
    for (int64_t lane = count; lane < LANES; ++lane) x[lane] = group.x[0];
    low = at_most(low, x);
    high = at_least(high, x);
  });
  const float lowest = -largest(-low), highest = largest(high);
  Range best;
  float most = -1.0f;
  for (int64_t tried = 0; tried < rounding.num_clippings; ++tried) {
    const float part = rounding.clippings[tried];
    const Range range = Range::over(lowest * part, highest * part, rounding.has_zeros);
    const float explained = Sums(group, range).explained();
    if (explained > most) {
      most = explained;
      best = range;
    }
  }
  // Once more with the scale that suits them: some codes are nearer to their weights then.
  best.inverse = reciprocal(Sums(group, best).scale());
  const Lanes nought = all(best.zero);
  group.each([&](Lanes x, int64_t at, int64_t count) { put(best.distances(x) + nought, codes + at, count); });
  *zero = uint8_t(best.zero);
  return Sums(group, best).scale();
}

void round_rows(const Rounding &rounding, int64_t first, int64_t last) {
  const int64_t groups = (rounding.depth + rounding.group - 1) / rounding.group;
  for (int64_t row = first; row < last; ++row)
    for (int64_t index = 0; index < groups; ++index) {
      const int64_t start = index * rounding.group, rest = rounding.depth - start;
      const Group group = {rounding.x + row * rounding.x_stride + start, rest < rounding.group ? rest : rounding.group};
      uint8_t *const codes = rounding.codes + row * rounding.codes_stride + start;
      const int64_t place = row * groups + index;
      uint8_t zero = 0;
      rounding.scales[place] =
          rounding.bits == 8 ? round_8(group, codes) : round_4(group, rounding, codes, &zero);
      if (rounding.has_zeros) rounding.zeros[place] = zero;
    }
}

}  // namespace
}  // namespace quire
