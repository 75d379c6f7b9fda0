// The kernels' code; rows_*.cpp compile it for one instruction set each.
#pragma once

#include "../parallel.h"
#include "draw.h"
#include "rotation.h"
#include "rows.h"
#include "simd.h"

namespace {

using quire::in_parallel;

// Numbers that one thread should have at least: beginning to work in parallel costs 0.5 to 1 us.
constexpr int64_t PLAIN_GRAIN = 1 << 14;
constexpr int64_t ACTIVATION_GRAIN = 1 << 13;

constexpr int64_t rows_of(int64_t grain, int64_t size) { return (grain + size - 1) / size; }

// One over the root mean square. Four chains of sums over all of the row, then a tree.
template <typename Read>
QUIRE_INLINE float inverse_root(int64_t size, float eps, const Read &read) {
  Floats sums[4] = {};
  int64_t at = 0;
  for (; at + 4 * LANES <= size; at += 4 * LANES)
    for (int chain = 0; chain < 4; ++chain) {
      const Floats x = read(at + chain * LANES, LANES);
      sums[chain] += x * x;
    }
  for (int chain = 0; at < size; at += LANES, ++chain) {
    const Floats x = read(at, size - at);
    sums[chain] += x * x;
  }
  const float sum = sum_of((sums[0] + sums[1]) + (sums[2] + sums[3]));
  return 1.0f / std::sqrt(sum / float(size) + eps);
}

// The norm's last steps, with the roundings of the reference.
template <typename Real>
QUIRE_INLINE Floats weighted(Floats x, float inverse, Floats weight, bool plus_one) {
  return plus_one ? x * inverse * (weight + 1.0f) : rounded<Real>(x * inverse) * weight;
}

template <typename Real>
void norm(const quire::Norm &norm) {
  const int64_t size = norm.size;
  const Real *weight = static_cast<const Real *>(norm.weight);
  in_parallel(norm.rows, rows_of(PLAIN_GRAIN, size), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      Real *x = static_cast<Real *>(norm.x) + row * size, *out = static_cast<Real *>(norm.out) + row * size;
      const Real *added = static_cast<const Real *>(norm.added) + row * size;
      float inverse;
      if (norm.added == nullptr) {
        inverse = inverse_root(size, norm.eps, [&](int64_t at, int64_t left) { return load_some(x + at, left); });
      } else {
        inverse = inverse_root(size, norm.eps, [&](int64_t at, int64_t left) {
          const Floats sum = rounded<Real>(load_some(x + at, left) + load_some(added + at, left));
          store_some(x + at, sum, left);
          return sum;
        });
      }
      for (int64_t at = 0; at < size; at += LANES) {
        const int64_t left = size - at;
        const Floats y = weighted<Real>(load_some(x + at, left), inverse, load_some(weight + at, left), norm.plus_one);
        store_some(out + at, y, left);
      }
    }
  });
}

template <typename Real>
QUIRE_INLINE void normalise_head(float *head, const Real *weight, const quire::Heads &heads) {
  const int64_t size = heads.size;
  Float32 *x = reinterpret_cast<Float32 *>(head);
  const float inverse =
      inverse_root(size, heads.eps, [&](int64_t at, int64_t left) { return load_some(x + at, left); });
  for (int64_t at = 0; at < size; at += LANES) {
    const int64_t left = size - at;
    const Floats y = weighted<Real>(load_some(x + at, left), inverse, load_some(weight + at, left), heads.plus_one);
    store_some(x + at, rounded<Real>(y), left);
  }
}

template <typename Real>
QUIRE_INLINE void turn_head(Real *head, const Real *weight, const Float32 *cosine, const Float32 *sine,
                            const quire::Heads &heads) {
  const int64_t size = heads.size, half = heads.frequencies;
  alignas(64) float copy[quire::MAX_HEAD_SIZE];
  Float32 *x = reinterpret_cast<Float32 *>(copy);
  const int64_t read = weight == nullptr ? 2 * half : size;
  for (int64_t at = 0; at < read; at += LANES) store_some(x + at, load_some(head + at, read - at), read - at);
  if (weight != nullptr) normalise_head(copy, weight, heads);
  for (int64_t at = 0; at < half; at += LANES) {
    const int64_t left = half - at;
    const Floats first = load_some(x + at, left), second = load_some(x + half + at, left);
    const Floats c = load_some(cosine + at, left), s = load_some(sine + at, left);
    store_some(head + at, first * c - second * s, left);
    store_some(head + half + at, second * c + first * s, left);
  }
  if (weight == nullptr) return;
  for (int64_t at = 2 * half; at < size; at += LANES)
    store_some(head + at, load_some(x + at, size - at), size - at);
}

template <typename Real>
void heads(const quire::Heads &heads) {
  const int64_t turned = heads.queries + heads.keys;
  in_parallel(heads.tokens, rows_of(PLAIN_GRAIN / 2, turned * heads.size), [&](int64_t begin, int64_t end) {
    for (int64_t token = begin; token < end; ++token) {
      Real *first = static_cast<Real *>(heads.heads) + token * heads.token_stride;
      const Float32 *cosine = reinterpret_cast<const Float32 *>(heads.cosine + token * heads.frequencies);
      const Float32 *sine = reinterpret_cast<const Float32 *>(heads.sine + token * heads.frequencies);
      for (int64_t head = 0; head < turned; ++head) {
        const void *weight = head < heads.queries ? heads.query_weight : heads.key_weight;
        turn_head(first + head * heads.size, static_cast<const Real *>(weight), cosine, sine, heads);
      }
    }
  });
}

template <quire::Activation activation>
QUIRE_INLINE Floats activated(Floats x) {
  switch (activation) {
    case quire::SILU:
      return x / (1.0f + exp_of(-x));
    case quire::GELU:
      return x * 0.5f * (1.0f + erf_of(x * 0.70710678118654752f));
    case quire::GELU_TANH:
      return x * 0.5f * (1.0f + tanh_of((x + x * x * x * 0.044715f) * 0.79788456080286536f));
    default:
      return x < 0.0f ? Floats{} : x;
  }
}

template <typename Real, quire::Activation activation>
void gate(const quire::Gate &gate) {
  const int64_t size = gate.size;
  const int64_t pieces = (size + 1023) / 1024;  // A single row is long enough to be shared.
  in_parallel(gate.rows * pieces, rows_of(ACTIVATION_GRAIN, (size + pieces - 1) / pieces), [&](int64_t begin, int64_t end) {
    for (int64_t unit = begin; unit < end; ++unit) {
      const int64_t row = unit / pieces, from = unit % pieces * 1024, to = from + 1024 < size ? from + 1024 : size;
      const Real *x = static_cast<const Real *>(gate.gate_up) + row * 2 * size;
      Real *out = static_cast<Real *>(gate.out) + row * size;
      for (int64_t at = from; at < to; at += LANES) {
        const int64_t left = to - at;
        const Floats y = rounded<Real>(activated<activation>(load_some(x + at, left)));
        store_some(out + at, y * load_some(x + size + at, left), left);
      }
    }
  });
}

template <typename Real>
void gate_by_activation(const quire::Gate &asked) {
  switch (asked.activation) {
    case quire::SILU:
      return gate<Real, quire::SILU>(asked);
    case quire::GELU:
      return gate<Real, quire::GELU>(asked);
    case quire::GELU_TANH:
      return gate<Real, quire::GELU_TANH>(asked);
    default:
      return gate<Real, quire::RELU>(asked);
  }
}

template <typename Real>
void scale(const quire::Scale &asked) {
  Real *x = static_cast<Real *>(asked.x);
  in_parallel((asked.count + LANES - 1) / LANES, PLAIN_GRAIN / LANES, [&](int64_t begin, int64_t end) {
    for (int64_t at = begin * LANES; at < end * LANES; at += LANES)
      store_some(x + at, load_some(x + at, asked.count - at) * asked.factor, asked.count - at);
  });
}

void cap(const quire::Cap &asked) {
  Float32 *x = reinterpret_cast<Float32 *>(asked.x);
  in_parallel((asked.count + LANES - 1) / LANES, ACTIVATION_GRAIN / LANES, [&](int64_t begin, int64_t end) {
    for (int64_t at = begin * LANES; at < end * LANES; at += LANES)
      store_some(x + at, tanh_of(load_some(x + at, asked.count - at) / asked.cap) * asked.cap, asked.count - at);
  });
}

quire::Segment largest(const float *logits, int64_t begin, int64_t end) {
  constexpr int64_t STRIDE = 1024;
  const Float32 *x = reinterpret_cast<const Float32 *>(logits);
  float best = -INFINITY;
  int64_t best_at = begin;
  Ints greatest_bits = {};
  for (int64_t from = begin; from < end; from += STRIDE) {
    const int64_t to = from + STRIDE < end ? from + STRIDE : end;
    Floats tops[4];
    for (Floats &top : tops) top = all(-INFINITY);
    int64_t at = from;
    for (; at + 4 * LANES <= to; at += 4 * LANES)
      for (int chain = 0; chain < 4; ++chain) {
        const Floats values = load(x + at + chain * LANES);
        const Ints bits = bit_cast<Ints>(values) & 0x7fffffff;
        greatest_bits = bits > greatest_bits ? bits : greatest_bits;
        tops[chain] = larger(values, tops[chain]);
      }
    float top = largest_of(larger(larger(tops[0], tops[1]), larger(tops[2], tops[3])));
    for (; at < to; ++at) {
      const int32_t bits = bit_cast<int32_t>(logits[at]) & 0x7fffffff;
      greatest_bits[0] = bits > greatest_bits[0] ? bits : greatest_bits[0];
      top = logits[at] > top ? logits[at] : top;
    }
    if (top > best) {
      best = top;
      best_at = from;
    }
  }
  for (int lane = 0; lane < LANES; ++lane)
    if (greatest_bits[lane] >= 0x7f800000) return {best, -1};
  while (best_at < end && logits[best_at] != best) ++best_at;
  return {best, best_at};
}

template <typename Asked, void (*float32)(const Asked &), void (*bfloat16)(const Asked &),
          void (*float16)(const Asked &)>
void by_dtype(const Asked &asked) {
  if (asked.dtype == quire::BFLOAT16) return bfloat16(asked);
  if (asked.dtype == quire::FLOAT16) return float16(asked);
  return float32(asked);
}

constexpr quire::RowKernels kernels = {
    by_dtype<quire::Norm, norm<Float32>, norm<BFloat16>, norm<Float16>>,
    by_dtype<quire::Heads, heads<Float32>, heads<BFloat16>, heads<Float16>>,
    by_dtype<quire::Gate, gate_by_activation<Float32>, gate_by_activation<BFloat16>, gate_by_activation<Float16>>,
    rotation,
    by_dtype<quire::Scale, scale<Float32>, scale<BFloat16>, scale<Float16>>,
    cap,
    largest,
    draw,
    logprobs,
};

}  // namespace
