// What two numbers bound every kernel on this machine: bytes read from memory a second, and multiply-adds a second with
// all factors in registers. Prints one JSON line: GB/s, bf16, fp32 and int8 GF/s (0 where there are no such instructions).
//
// c++ -O3 -march=native -fopenmp machine_limits.cpp -o machine_limits && ./machine_limits
#include <immintrin.h>
#include <omp.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

constexpr int CHAINS = 20;  // independent sums: more than latency times units

template <typename Step>
double per_second(double work, const Step &step) {
  double best = 0;
  for (int turn = 0; turn < 5; ++turn) {
    const long rounds = 2000000;
    const double start = omp_get_wtime();
#pragma omp parallel
    {
      __m512 sum[CHAINS];
#pragma GCC unroll 20
      for (int i = 0; i < CHAINS; ++i) {
        sum[i] = _mm512_set1_ps(float(i));
        asm volatile("" : "+v"(sum[i]));
      }
      for (long round = 0; round < rounds; ++round) {
#pragma GCC unroll 20
        for (int i = 0; i < CHAINS; ++i) sum[i] = step(sum[i]);
      }
#pragma GCC unroll 20
      for (int i = 0; i < CHAINS; ++i) asm volatile("" ::"v"(sum[i]));
    }
    const double rate = double(rounds) * CHAINS * work * omp_get_max_threads() / (omp_get_wtime() - start);
    if (rate > best) best = rate;
  }
  return best / 1e9;
}

double read_gb_per_s() {
  const int64_t count = int64_t(1) << 26;  // 512 MiB
  int64_t *numbers = static_cast<int64_t *>(std::aligned_alloc(64, count * 8));
#pragma omp parallel for schedule(static)
  for (int64_t i = 0; i < count; ++i) numbers[i] = i;
  double best = 0;
  for (int turn = 0; turn < 7; ++turn) {
    int64_t total = 0;
    const double start = omp_get_wtime();
#pragma omp parallel for schedule(static) reduction(+ : total)
    for (int64_t i = 0; i < count; ++i) total += numbers[i];
    const double rate = double(count) * 8 / (omp_get_wtime() - start);
    asm volatile("" ::"r"(total));
    if (rate > best) best = rate;
  }
  std::free(numbers);
  return best / 1e9;
}

}  // namespace

int main() {
  double bf16 = 0, fp32 = 0, int8 = 0;
#if defined(__AVX512F__)
  __m512 factor = _mm512_set1_ps(0.5f);
  asm volatile("" : "+v"(factor));
  fp32 = per_second(32, [&](__m512 sum) { return _mm512_fmadd_ps(sum, factor, factor); });
#endif
#if defined(__AVX512BF16__)
  __m512bh pairs;
  std::memset(&pairs, 0, sizeof pairs);
  asm volatile("" : "+v"(pairs));
  bf16 = per_second(64, [&](__m512 sum) { return _mm512_dpbf16_ps(sum, pairs, pairs); });
#endif
#if defined(__AVX512VNNI__)
  __m512i bytes = _mm512_set1_epi8(1);
  asm volatile("" : "+v"(bytes));
  int8 = per_second(128, [&](__m512 sum) {
    return _mm512_castsi512_ps(_mm512_dpbusd_epi32(_mm512_castps_si512(sum), bytes, bytes));
  });
#endif
  std::printf("{\"read_gb_per_s\": %.1f, \"bf16_gf_per_s\": %.0f, \"fp32_gf_per_s\": %.0f, \"int8_gf_per_s\": %.0f}\n",
              read_gb_per_s(), bf16, fp32, int8);
  return 0;
}
