// Attention over paged keys and values: what a call is, how a block lies in memory, what each set of instructions
// provides.
//
// A block holds S tokens of G heads of D numbers, for keys and for values alike, as [G][S * D]. Where S and D are
// multiples of 16 (LANE_TOKENS), 16 tokens lie together so that no vector needs a shuffle:
//   bfloat16: keys [S / 16][D / 2][16][2], values [S / 2][D][2]: pairs as the dot-product instruction wants them
//   others:   keys [S / 16][D][16],        values [S][D]
// Else both lie as [S][G][D], and each step copies them into that form. The layout depends on S, D and the type alone.
//
// One order of summation: keys come in steps of 64 positions and chunks of 1024, both counted from position 0. A step
// updates the running maximum, sum and weighted values of each query and head; chunks are folded from first to last.
// What a query does not see is an exact zero in it. So a result is the same to the last bit whatever queries share its
// tile, however the prompt was chunked, whatever the block size and however many threads compute.
#pragma once

#include <cstdint>

namespace quire::attention {

constexpr int LANE_TOKENS = 16;
constexpr int STEP_TOKENS = 64;
constexpr int STEP_GROUPS = STEP_TOKENS / LANE_TOKENS;
constexpr int CHUNK_STEPS = 16;
constexpr int TILE_ROWS = 48;  // queries x heads that are computed together

enum Type : int { BF16 = 0, F16 = 1, F32 = 2, NUM_TYPES = 3 };

inline int64_t padded(int64_t head_size) { return (head_size + LANE_TOKENS - 1) / LANE_TOKENS * LANE_TOKENS; }

struct Cache {
  void *keys, *values;
  int64_t block_size, num_kv_heads, head_size;
  Type type;

  bool is_interleaved() const { return block_size % LANE_TOKENS == 0 && head_size % LANE_TOKENS == 0; }
  int64_t block_numbers() const { return block_size * num_kv_heads * head_size; }
};

// Neighbouring queries of a row and heads that share a KV head, over a run of chunks of keys.
struct Segment {
  int32_t row;
  int32_t first;     // token of the step
  int32_t position;  // of that token in its sequence
  int32_t queries;
  int32_t head;      // first of `heads` query heads
  int32_t heads;
  int32_t chunk_begin, chunk_end;
  int32_t has_first;  // chunk_begin is the first chunk that the queries see
  int32_t partial;    // -1: the segment has all chunks and writes the result; else where its states go

  int64_t rows() const { return int64_t(queries) * heads; }
  int64_t first_key(int64_t window) const {
    return window > 0 && position + 1 > window ? position + 1 - window : 0;
  }
  int64_t end_key() const { return int64_t(position) + queries; }
};

struct Call {
  Cache cache;
  const void *q;  // rows of [num_heads, head_size], q_stride apart (in numbers); of the cache's type
  int64_t q_stride;
  void *out;  // [tokens, num_heads, head_size]
  int64_t num_heads;
  const int32_t *table;  // block ids of a row, table_stride apart
  int64_t table_stride;
  int64_t window;  // 0: none
  float scale;
  float soft_cap;   // 0: none
  float *partials;  // states of items that several threads share
};

// Running maximum, sums and weighted values of `rows` rows, one after the other.
struct State {
  float *maximum;  // [rows]
  float *sums;     // [rows][16]: a partial sum for each lane
  float *values;   // [rows][padded head size]

  static int64_t floats(int64_t rows, int64_t width) {
    return ((rows + 15) / 16 + rows) * 16 + rows * width;
  }
  State(float *memory, int64_t rows)
      : maximum(memory), sums(memory + (rows + 15) / 16 * 16), values(sums + rows * 16) {}
};

// Memory that one thread needs, in bytes; begins at a multiple of 64.
inline int64_t scratch_bytes(int64_t head_size) {
  const int64_t width = padded(head_size);
  const int64_t floats = TILE_ROWS * width + 2 * TILE_ROWS * STEP_TOKENS + (TILE_ROWS + 15) / 16 * 16 +
                         2 * State::floats(TILE_ROWS, width) + (2 * STEP_TOKENS + LANE_TOKENS) * width;
  return (floats * 4 + 4095) / 4096 * 4096;
}

struct Kernels {
  // `next`: the segment that the thread computes afterwards, or nullptr; its first keys are fetched early.
  void (*compute[NUM_TYPES])(const Call &, const Segment &, const Segment *next, char *scratch);
  // Fold `count` states that lie one after the other and write the result of the segment's queries.
  void (*fold[NUM_TYPES])(const Call &, const Segment &, float *states, int64_t count);
};

extern const Kernels kernels_portable;
extern const Kernels kernels_avx2, kernels_avx512, kernels_avx512bf16;  // of x86-64
extern const Kernels kernels_neon, kernels_neonbf16;                    // of 64-bit Arm

}  // namespace quire::attention
