// What the checks of all families use: counting, numbers drawn in a fixed order, types of numbers by name.
#pragma once

#include <cmath>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <vector>

#include "isa.h"
#include "numbers.h"

namespace quire::tests {

// Counts checks and tells the first failures.
class Report {
 public:
  __attribute__((format(printf, 3, 4))) void expect(bool holds, const char *format, ...) {
    ++checks_;
    if (holds || ++failures_ > 20) return;
    va_list arguments;
    va_start(arguments, format);
    std::printf("  FAILED ");
    std::vprintf(format, arguments);
    std::printf("\n");
    va_end(arguments);
  }
  int64_t checks() const { return checks_; }
  int64_t failures() const { return failures_; }

 private:
  int64_t checks_ = 0, failures_ = 0;
};

// The same numbers each time, spread evenly.
class Numbers {
 public:
  explicit Numbers(uint64_t seed) : state_(seed * 2 + 1) {}
  uint32_t bits() {
    state_ = state_ * 6364136223846793005ull + 1442695040888963407ull;
    return uint32_t(state_ >> 32);
  }
  double between(double low, double high) { return low + (high - low) * (bits() / 4294967296.0); }

 private:
  uint64_t state_;
};

enum class Kind { F32, BF16, F16 };
constexpr Kind KINDS[] = {Kind::F32, Kind::BF16, Kind::F16};

inline const char *name_of(Kind kind) { return kind == Kind::F32 ? "f32" : kind == Kind::BF16 ? "bf16" : "f16"; }
// The distance between neighbours, in parts of a number.
inline double spacing(Kind kind) { return kind == Kind::F32 ? 0x1p-23 : kind == Kind::BF16 ? 0x1p-7 : 0x1p-10; }

// Numbers of a kind, as bytes that a kernel reads or writes.
class Array {
 public:
  Array(Kind kind, int64_t count) : kind_(kind), bytes_(size_t(count * size()), char(0x55)) {}
  Array(Kind kind, int64_t count, Numbers &numbers, double low = -1, double high = 1) : Array(kind, count) {
    for (int64_t i = 0; i < count; ++i) set(i, float(numbers.between(low, high)));
  }

  int64_t size() const { return kind_ == Kind::F32 ? 4 : 2; }
  void *at(int64_t i) { return bytes_.data() + i * size(); }
  const void *at(int64_t i) const { return bytes_.data() + i * size(); }
  void set(int64_t i, float x) {
    const uint16_t half = kind_ == Kind::BF16 ? to_bf16(x) : to_f16(x);
    if (kind_ == Kind::F32) std::memcpy(at(i), &x, 4);
    else std::memcpy(at(i), &half, 2);
  }
  double get(int64_t i) const {
    float x;
    uint16_t half;
    std::memcpy(&x, at(i), size_t(kind_ == Kind::F32 ? 4 : 0));
    std::memcpy(&half, at(i), 2);
    return kind_ == Kind::F32 ? x : kind_ == Kind::BF16 ? from_bf16(half) : from_f16(half);
  }
  bool same(int64_t i, const Array &other, int64_t j, int64_t count) const {
    return std::memcmp(at(i), other.at(j), size_t(count * size())) == 0;
  }
  bool operator==(const Array &other) const { return bytes_ == other.bytes_; }

 private:
  Kind kind_;
  std::vector<char> bytes_;
};

void check_gemm(Report &report);
void check_rows(Report &report);
void check_draws(Report &report);
void check_attention(Report &report);

}  // namespace quire::tests
