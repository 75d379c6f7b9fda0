#include "isa.h"

namespace quire {

namespace {

Isa detect() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (!(__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c") &&
        __builtin_cpu_supports("bmi2")))
    return PORTABLE;
  if (!(__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512dq")))
    return AVX2;
  if (!(__builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vnni") &&
        __builtin_cpu_supports("avx512vbmi")))
    return AVX512;
  return AVX512BF16;
#else
  return PORTABLE;
#endif
}

const Isa best = detect();
Isa in_use = best;

}  // namespace

Isa best_isa() { return best; }

Isa current_isa() { return in_use; }

bool use_isa(Isa isa) {
  if (isa > best_isa()) return false;
  in_use = isa;
  return true;
}

const char *isa_name(Isa isa) {
  static const char *const names[] = {"portable", "avx2", "avx512", "avx512bf16"};
  return names[isa];
}

}  // namespace quire
