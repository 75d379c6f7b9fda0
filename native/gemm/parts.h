// A product shared out among threads: panels, and rows too where there are too few panels for all threads.
#pragma once

#include "gemm/gemm.h"
#include "parallel.h"

namespace quire {

inline void run_parts(GemmKernel kernel, const GemmCall &call, int64_t rows) {
  const int64_t panels = panels_of(call.columns), threads = omp_get_max_threads();
  int64_t bands = 1;
  if (rows >= 48 && panels < 4 * threads) {
    bands = (4 * threads + panels - 1) / panels;
    if (bands > rows / 24) bands = rows / 24;
  }
  // A thread's share of less than about 16 k multiply-adds costs less than waking it.
  const int64_t work = (rows + bands - 1) / bands * call.depth * PANEL;
  const int64_t grain = work >= (1 << 14) ? 1 : (1 << 14) / (work > 0 ? work : 1) + 1;
  in_parallel(bands * panels, grain, [&](int64_t begin, int64_t end) {
    while (begin < end) {
      const int64_t band = begin / panels, first = begin % panels;
      const int64_t last = first + (end - begin) < panels ? first + (end - begin) : panels;
      kernel(call, {rows * band / bands, rows * (band + 1) / bands, first, last});
      begin += last - first;
    }
  });
}

}  // namespace quire
