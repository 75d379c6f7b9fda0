// Penalties on tokens that have been said, in time proportional to what has been said.
#pragma once

#include <cstdint>

namespace quire {

struct Penalties {
  float repetition, frequency, presence;
};

// `ids`: all that was said, the prompt's `num_prompt` first. `counts`: a number for each id, all 0 before and after.
// False, with nothing changed, where an id is outside the vocabulary.
inline bool penalise(float *logits, int64_t size, const int32_t *ids, int64_t num_ids, int64_t num_prompt,
                     const Penalties &penalties, int32_t *counts) {
  constexpr int32_t IS_REPEATED = 1 << 30;
  for (int64_t i = 0; i < num_ids; ++i)
    if (ids[i] < 0 || ids[i] >= size) return false;
  for (int64_t i = num_prompt; i < num_ids; ++i) ++counts[ids[i]];
  if (penalties.repetition != 1.0f) {
    for (int64_t i = 0; i < num_ids; ++i) {
      float &logit = logits[ids[i]];
      int32_t &count = counts[ids[i]];
      if (!(count & IS_REPEATED)) logit = logit > 0.0f ? logit / penalties.repetition : logit * penalties.repetition;
      count |= IS_REPEATED;
    }
  }
  for (int64_t i = num_prompt; i < num_ids; ++i) {
    const int32_t count = counts[ids[i]] & ~IS_REPEATED;
    if (count == 0) continue;
    logits[ids[i]] -= penalties.frequency * float(count) + penalties.presence;
    counts[ids[i]] = 0;
  }
  for (int64_t i = 0; i < num_ids; ++i) counts[ids[i]] = 0;
  return true;
}

}  // namespace quire
