// Which thread computes which queries over which keys, in pieces of like cost.
#pragma once

#include "attention/attention.h"

namespace quire::attention {

struct Rows {
  int64_t count;
  const int64_t *starts;   // count + 1 offsets into the step's tokens
  const int64_t *lengths;  // tokens of the sequence, the step's included
};

struct Shape {
  int64_t num_heads, num_kv_heads, head_size, window;
};

// States of an item that several pieces share: `count` of them, at `partial`.
struct Fold {
  int32_t segment, partial, count;
};

struct Schedule {
  int32_t num_threads, num_pieces, num_segments, num_folds;
  int64_t num_segments_at_most, num_pieces_at_most;
  int64_t partial_lines;  // memory for states, in units of 64 bytes
  int64_t cost;           // in steps of one row over 64 keys

  int32_t *pieces() { return reinterpret_cast<int32_t *>(this + 1); }  // num_pieces + 1 offsets into segments
  Segment *segments() { return reinterpret_cast<Segment *>(pieces() + num_pieces_at_most + 1); }
  Fold *folds() { return reinterpret_cast<Fold *>(segments() + num_segments_at_most); }

  // How much memory a schedule of these rows takes, itself included.
  static int64_t bytes(const Rows &rows, const Shape &shape, int64_t num_threads);
  // Lays a schedule out in that memory.
  static void make(void *memory, const Rows &rows, const Shape &shape, int64_t num_threads);
};

}  // namespace quire::attention
