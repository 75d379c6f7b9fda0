// Which instructions the kernels may use. One level for the whole extension: a family that has no kernel of its own for
// a level takes the next lower one's.
#pragma once

namespace quire {

// Each rises within its kind of processor: portable, then those of x86-64, or those of 64-bit Arm.
enum Isa : int {
  PORTABLE = 0,
  AVX2 = 1,
  AVX512 = 2,
  AVX512BF16 = 3,  // brings VNNI and VBMI
  NEON = 4,        // what every 64-bit Arm has
  NEONBF16 = 5,    // brings the dot products of bytes and I8MM
};
constexpr int NUM_ISAS = 6;

// What the processor and the operating system allow.
Isa best_isa();

// What is in use: the best, until use_isa() lowered it.
Isa current_isa();

// False when the processor does not have it.
bool use_isa(Isa isa);

const char *isa_name(Isa isa);

// The tables of a family by Isa, for kernels_for(): QUIRE_TABLES(gemm) names gemm_portable, gemm_avx2 and so on.
#if defined(__x86_64__)
#define QUIRE_TABLES(family) \
  { &family##_portable, &family##_avx2, &family##_avx512, &family##_avx512bf16 }
#elif defined(__aarch64__)
#define QUIRE_TABLES(family) \
  { &family##_portable, nullptr, nullptr, nullptr, &family##_neon, &family##_neonbf16 }
#else
#define QUIRE_TABLES(family) \
  { &family##_portable }
#endif

// The kernels of a level or the nearest below; `tables` is indexed by Isa and holds nullptr where there are none.
template <typename Table, int NUM>
inline const Table *kernels_for(const Table *const (&tables)[NUM]) {
  for (int level = current_isa() < NUM ? current_isa() : NUM - 1; level > PORTABLE; --level)
    if (tables[level] != nullptr) return tables[level];
  return tables[PORTABLE];
}

}  // namespace quire
