// Work shared out among torch's OpenMP threads: each takes one run of neighbours, the same one for the same numbers.
#pragma once

#include <omp.h>

#include <cstdint>

namespace quire {

// The part of 0..count that thread `index` of `num` takes.
struct Share {
  int64_t begin, end;
  Share(int64_t count, int64_t index, int64_t num)
      : begin(count * index / num), end(count * (index + 1) / num) {}
};

// Calls body(begin, end) on up to omp_get_max_threads() threads; alone when there is less than `grain` for each of two.
template <typename Body>
inline void in_parallel(int64_t count, int64_t grain, const Body &body) {
  int64_t threads = omp_get_max_threads();
  if (grain > 1 && count / grain < threads) threads = count / grain;
  if (threads > count) threads = count;
  if (threads <= 1) {
    body(int64_t(0), count);
    return;
  }
#pragma omp parallel num_threads(static_cast<int>(threads))
  {
    const Share share(count, omp_get_thread_num(), omp_get_num_threads());
    if (share.begin < share.end) body(share.begin, share.end);
  }
}

}  // namespace quire
