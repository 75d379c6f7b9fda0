// Which instructions the kernels may use. One level for the whole extension: a family that has no kernel of its own for
// a level takes the next lower one's.
#pragma once

namespace quire {

enum Isa : int { PORTABLE = 0, AVX2 = 1, AVX512 = 2, AVX512BF16 = 3 };  // AVX512BF16 brings VNNI and VBMI

// What the processor and the operating system allow.
Isa best_isa();

// What is in use: the best, until use_isa() lowered it.
Isa current_isa();

// False when the processor does not have it.
bool use_isa(Isa isa);

const char *isa_name(Isa isa);

// The kernels of a level or the nearest below; `tables` is indexed by Isa and holds nullptr where there are none.
template <typename Table>
inline const Table *kernels_for(const Table *const (&tables)[4]) {
  for (int level = current_isa(); level > PORTABLE; --level)
    if (tables[level] != nullptr) return tables[level];
  return tables[PORTABLE];
}

}  // namespace quire
