// Norms, rotations, gates, and the largest logit.
#include "rows/rows.h"

#include <omp.h>

#include "tests/check.h"

namespace quire::tests {

namespace {

const RowKernels &kernels() {
  static const RowKernels *const tables[] = QUIRE_TABLES(rows);
  return *kernels_for(tables);
}

DType dtype_of(Kind kind) { return kind == Kind::F32 ? FLOAT32 : kind == Kind::BF16 ? BFLOAT16 : FLOAT16; }

double rounded(Kind kind, double x) {
  Array one(kind, 1);
  one.set(0, float(x));
  return one.get(0);
}

bool is_near(double a, double b, double bound) { return std::fabs(a - b) <= bound; }

void check_norm(Report &report, Kind kind, int64_t rows, int64_t size, bool adds, bool plus_one, Numbers &numbers) {
  const Array x(kind, rows * size, numbers, -3, 3), added(kind, rows * size, numbers);
  Array weight(kind, size, numbers, 0.5, 1.5);
  const float eps = 1e-6f;
  const auto run = [&](Array &sum, Array &out, int64_t first, int64_t count) {
    sum = x;
    kernels().norm({dtype_of(kind), sum.at(first * size), adds ? added.at(first * size) : nullptr, out.at(first * size),
                    weight.at(0), count, size, eps, plus_one});
  };
  Array sum = x, out(kind, rows * size), own_sum = x, own(kind, rows * size);
  run(sum, out, 0, rows);
  bool near = true, same = true;
  for (int64_t r = 0; r < rows; ++r) {
    double squares = 0;
    for (int64_t i = r * size; i < (r + 1) * size; ++i) {
      const double value = adds ? rounded(kind, x.get(i) + added.get(i)) : x.get(i);
      near &= sum.get(i) == value;
      squares += value * value;
    }
    const double inverse = 1 / std::sqrt(squares / double(size) + eps);
    for (int64_t i = 0; i < size; ++i) {
      const double value = sum.get(r * size + i) * inverse, by = weight.get(i) + plus_one;
      near &= is_near(out.get(r * size + i), value * by, std::fabs(value * by) * (2 * spacing(kind) + 1e-5));
    }
    run(own_sum, own, r, 1);
    same &= own.same(r * size, out, r * size, size);
  }
  report.expect(near, "norm of %lld x %lld %s", (long long)rows, (long long)size, name_of(kind));
  report.expect(same, "norm of %lld x %lld %s: alone a row has other bits", (long long)rows, (long long)size, name_of(kind));
  for (const int threads : {2, 3}) {
    omp_set_num_threads(threads);
    run(own_sum, own, 0, rows);
    report.expect(own == out, "norm of %lld x %lld %s: other bits on %d threads", (long long)rows, (long long)size,
                  name_of(kind), threads);
  }
  omp_set_num_threads(1);
}

void check_heads(Report &report, Kind kind, int64_t size, int64_t frequencies, bool normalises, Numbers &numbers) {
  const int64_t tokens = 5, queries = 3, keys = 2, stride = (queries + keys + 1) * size;
  const Array before(kind, tokens * stride, numbers);
  Array query_weight(kind, size, numbers, 0.5, 1.5), key_weight(kind, size, numbers, 0.5, 1.5);
  std::vector<float> cosine(size_t(tokens * frequencies)), sine = cosine;
  for (size_t i = 0; i < cosine.size(); ++i) {
    const double angle = numbers.between(0, 6.28);
    cosine[i] = float(std::cos(angle));
    sine[i] = float(std::sin(angle));
  }
  const auto run = [&](Array &heads, int64_t first, int64_t count) {
    kernels().heads({dtype_of(kind), heads.at(first * stride), cosine.data() + first * frequencies,
                     sine.data() + first * frequencies, normalises ? query_weight.at(0) : nullptr,
                     normalises ? key_weight.at(0) : nullptr, count, stride, queries, keys, size, frequencies, 1e-6f,
                     false});
  };
  Array heads = before, alone = before;
  run(heads, 0, tokens);
  for (int64_t token = tokens; token-- > 0;) run(alone, token, 1);
  bool near = true;
  for (int64_t token = 0; token < tokens; ++token)
    for (int64_t head = 0; head < queries + keys + 1; ++head) {
      const int64_t at = token * stride + head * size;
      if (head == queries + keys) {  // not a query, not a key
        near &= heads.same(at, before, at, size);
        continue;
      }
      double squares = 0;
      for (int64_t i = 0; i < size; ++i) squares += before.get(at + i) * before.get(at + i);
      const Array &weight = head < queries ? query_weight : key_weight;
      std::vector<double> x(static_cast<size_t>(size));
      for (int64_t i = 0; i < size; ++i)
        x[size_t(i)] = before.get(at + i) *
                       (normalises ? weight.get(i) / std::sqrt(squares / double(size) + 1e-6) : 1.0);
      for (int64_t i = 0; i < frequencies; ++i) {
        const double c = cosine[size_t(token * frequencies + i)], s = sine[size_t(token * frequencies + i)];
        const double a = x[size_t(i)], b = x[size_t(i + frequencies)], bound = 3 * (spacing(kind) + 1e-6);
        near &= is_near(heads.get(at + i), a * c - b * s, bound * (std::fabs(a) + std::fabs(b)));
        near &= is_near(heads.get(at + i + frequencies), b * c + a * s, bound * (std::fabs(a) + std::fabs(b)));
      }
      for (int64_t i = 2 * frequencies; i < size; ++i)
        near &= is_near(heads.get(at + i), x[size_t(i)], 3 * (spacing(kind) + 1e-6) * std::fabs(x[size_t(i)]));
    }
  report.expect(near, "heads of %lld %s, %lld turned", (long long)size, name_of(kind), (long long)(2 * frequencies));
  report.expect(alone == heads, "heads of %lld %s: alone a token has other bits", (long long)size, name_of(kind));
}

double activated(Activation activation, double x) {
  switch (activation) {
    case SILU: return x / (1 + std::exp(-x));
    case GELU: return x * 0.5 * (1 + std::erf(x / std::sqrt(2.0)));
    case GELU_TANH: return x * 0.5 * (1 + std::tanh((x + 0.044715 * x * x * x) * std::sqrt(2 / 3.14159265358979324)));
    default: return x < 0 ? 0 : x;
  }
}

void check_gate(Report &report, Kind kind, Activation activation, int64_t size, Numbers &numbers) {
  const int64_t rows = 7;
  Array x(kind, rows * 2 * size, numbers, -12, 12), out(kind, rows * size), alone = out;
  const auto run = [&](Array &to, int64_t first, int64_t count) {
    kernels().gate({dtype_of(kind), activation, x.at(first * 2 * size), to.at(first * size), count, size});
  };
  run(out, 0, rows);
  for (int64_t r = 0; r < rows; ++r) run(alone, r, 1);
  bool near = true;
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t i = 0; i < size; ++i) {
      const double from = x.get(r * 2 * size + i), up = x.get((r * 2 + 1) * size + i), left = activated(activation, from);
      // Far to the left 1 + erf(x) is a difference of neighbours; float16 ends at 6e-8.
      const double least = std::fabs(from * up) * 0x1p-22 + (kind == Kind::F16 ? (std::fabs(up) + 1) * 0x1p-24 : 0);
      near &= is_near(out.get(r * size + i), left * up, std::fabs(left * up) * (2 * spacing(kind) + 2e-6) + least);
    }
  report.expect(near, "gate of %lld %s, activation %d", (long long)size, name_of(kind), int(activation));
  report.expect(alone == out, "gate of %lld %s: alone a row has other bits", (long long)size, name_of(kind));
  omp_set_num_threads(3);
  run(alone, 0, rows);
  report.expect(alone == out, "gate of %lld %s: other bits on three threads", (long long)size, name_of(kind));
  omp_set_num_threads(1);
}

void check_largest(Report &report, Numbers &numbers) {
  for (const int64_t size : {1, 15, 64, 65, 1023, 1024, 3000}) {
    std::vector<float> logits(static_cast<size_t>(size));
    for (float &logit : logits) logit = float(numbers.between(-5, 5));
    const int64_t begin = size / 4, twin = size - 1, best = begin + (size - begin) / 2;
    logits[size_t(best)] = logits[size_t(twin)] = 6;
    const Segment found = kernels().largest(logits.data(), begin, size);
    report.expect(found.id == best && found.value == 6, "largest of %lld", (long long)size);
    for (const float bad : {NAN, INFINITY}) {
      logits[size_t(begin)] = bad;
      report.expect(kernels().largest(logits.data(), begin, size).id == -1, "largest of %lld with %f", (long long)size,
                    double(bad));
    }
  }
}

}  // namespace

void check_rows(Report &report) {
  Numbers numbers(2);
  omp_set_num_threads(1);
  for (const Kind kind : KINDS) {
    for (const int64_t size : {1, 15, 16, 17, 63, 64, 100, 1024})
      check_norm(report, kind, size == 1024 ? 70 : 5, size, size % 3 != 0, size % 2 == 0, numbers);
    for (const bool normalises : {false, true}) {
      check_heads(report, kind, 64, 32, normalises, numbers);
      check_heads(report, kind, 80, 20, normalises, numbers);
      check_heads(report, kind, 36, 18, normalises, numbers);
    }
    for (const Activation activation : {SILU, GELU, GELU_TANH, RELU})
      for (const int64_t size : {1, 17, 64, 5000}) check_gate(report, kind, activation, size, numbers);
  }
  check_largest(report, numbers);
}

}  // namespace quire::tests
