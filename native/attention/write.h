// New keys and values into their slots.
#pragma once

#include "attention/attention.h"

namespace quire::attention {

struct NewTokens {
  const void *keys, *values;  // rows of [num_kv_heads, head_size], of the cache's type or of `type`
  int64_t key_stride, value_stride;  // from row to row, in numbers
  const int64_t *slots;
  int64_t count;
  Type type = BF16;                  // their own, where the cache's has eight bits
  const Kernels *kernels = nullptr;  // what rounds to eight bits
};

// Tokens first..last of one KV head. Writes no number but theirs, so that threads may share a block.
void write(const Cache &cache, const NewTokens &tokens, int64_t kv_head, int64_t first, int64_t last);

}  // namespace quire::attention
