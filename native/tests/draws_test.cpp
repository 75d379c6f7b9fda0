// Draws and logprobs of single rows.
#include <algorithm>

#include "rows/rows.h"
#include "tests/check.h"

namespace quire::tests {

namespace {

const RowKernels &kernels() {
  static const RowKernels *const tables[] = QUIRE_TABLES(rows);
  return *kernels_for(tables);
}

struct Logits {
  std::vector<float> values;
  std::vector<int64_t> line;  // ids in falling order of value
  std::vector<char> scratch;

  Logits(int64_t size, Numbers &numbers) : scratch(size_t(draw_scratch_bytes(size))) {
    for (int64_t id = 0; id < size; ++id) {
      values.push_back(float(numbers.between(-8, 4)));
      line.push_back(id);
    }
    std::sort(line.begin(), line.end(), [this](int64_t a, int64_t b) {
      return values[size_t(a)] != values[size_t(b)] ? values[size_t(a)] > values[size_t(b)] : a < b;
    });
  }
  double at(int64_t place) const { return values[size_t(line[size_t(place)])]; }
};

// How many of the line stay.
size_t kept(const Logits &logits, const DrawColumn &asked) {
  size_t count = 0;
  while (count < logits.line.size() && (logits.at(int64_t(count)) - logits.at(0)) / asked.temperature >= asked.log_min_p)
    ++count;
  if (asked.top_k > 0) count = std::min(count, size_t(asked.top_k));
  double total = 0, mass = 0;
  for (size_t i = 0; i < count; ++i) total += std::exp((logits.at(int64_t(i)) - logits.at(0)) / asked.temperature);
  if (asked.top_p >= 1) return count;
  for (size_t i = 0; i < count; ++i) {
    mass += std::exp((logits.at(int64_t(i)) - logits.at(0)) / asked.temperature) / total;
    if (mass >= asked.top_p) return i + 1;
  }
  return count;
}

void check_draw(Report &report, int64_t size, const DrawColumn &asked, Numbers &numbers) {
  Logits logits(size, numbers);
  std::vector<bool> stays(size_t(size), false);
  const size_t count = kept(logits, asked);
  for (size_t i = 0; i < count; ++i) stays[size_t(logits.line[i])] = true;
  const auto weight = [&](int64_t id) {
    return stays[size_t(id)] ? std::exp((logits.values[size_t(id)] - logits.at(0)) / asked.temperature) : 0.0;
  };
  double total = 0;
  for (int64_t id = 0; id < size; ++id) total += weight(id);
  for (int i = 0; i < 20; ++i) {
    const double uniform = numbers.between(0, 1);
    const int64_t token =
        kernels().draw(logits.values.data(), size, asked, uniform, logits.scratch.data());
    double below = 0;
    for (int64_t id = 0; id < token && id < size; ++id) below += weight(id);
    const bool is_right = token >= 0 && token < size && stays[size_t(token)] && uniform * total >= below - 1e-5 * total &&
                          uniform * total <= below + weight(token) + 1e-5 * total;
    report.expect(is_right, "draw of %lld at %f gave %lld", (long long)size, uniform, (long long)token);
  }
}

void check_logprobs(Report &report, int64_t size, int64_t num_top, Numbers &numbers) {
  Logits logits(size, numbers);
  double total = 0;
  for (int64_t id = 0; id < size; ++id) total += std::exp(logits.values[size_t(id)] - logits.at(0));
  const auto logprob = [&](int64_t id) { return logits.values[size_t(id)] - logits.at(0) - std::log(total); };
  const auto rank = [&](int64_t id) {
    return 1 + std::count_if(logits.values.begin(), logits.values.end(),
                             [&](float other) { return other > logits.values[size_t(id)]; });
  };
  const int64_t named[] = {size - 1, 0, size / 2}, own = size / 3;
  const int64_t num_named = num_top == 0 ? 3 : 0, count = 1 + num_named + num_top;
  std::vector<Logprob> out(static_cast<size_t>(count));
  kernels().logprobs(logits.values.data(), size, {named, num_named, num_top}, own, out.data() + count, out.data(),
                     logits.scratch.data());
  for (int64_t i = 0; i < count; ++i) {
    const int64_t id = i == 0 ? own : num_named > 0 ? named[i - 1] : logits.line[size_t(i - 1)];
    const Logprob &found = out[size_t(i)];
    report.expect(found.id == id && found.rank == rank(id) && std::fabs(found.value - logprob(id)) < 1e-4,
                  "logprob %lld of %lld", (long long)i, (long long)size);
  }
}

}  // namespace

void check_draws(Report &report) {
  Numbers numbers(3);
  const DrawColumn columns[] = {{1.0f, -INFINITY, 0, 1.0},  {0.7f, -INFINITY, 0, 1.0}, {1.5f, -2.5f, 0, 1.0},
                                {1.0f, -INFINITY, 10, 1.0}, {0.8f, -INFINITY, 0, 0.9}, {1.0f, -3.0f, 40, 0.8}};
  for (const int64_t size : {1, 63, 64, 65, 1000, 20000})
    for (const DrawColumn &asked : columns) check_draw(report, size, asked, numbers);
  for (const int64_t size : {3, 64, 1000, 20000})
    for (const int64_t num_top : {0, 1, 3}) check_logprobs(report, size, num_top, numbers);
}

}  // namespace quire::tests
