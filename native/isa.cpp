#include "isa.h"

#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

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
#elif defined(__aarch64__) && defined(__linux__)
  // Bits of the kernel's interface (asm/hwcap.h); headers older than the processors lack the names.
  constexpr unsigned long DOT_PRODUCT = 1ul << 20, I8MM = 1ul << 13, BF16 = 1ul << 14;
  const unsigned long second = getauxval(AT_HWCAP2);
  if (!(getauxval(AT_HWCAP) & DOT_PRODUCT) || !(second & I8MM) || !(second & BF16)) return NEON;
  return NEONBF16;
#elif defined(__aarch64__)
  return NEON;
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
  const bool is_other_kind = best >= NEON && isa > PORTABLE && isa < NEON;
  if (isa > best || is_other_kind) return false;
  in_use = isa;
  return true;
}

const char *isa_name(Isa isa) {
  static const char *const names[] = {"portable", "avx2", "avx512", "avx512bf16", "neon", "neonbf16"};
  return names[isa];
}

}  // namespace quire
