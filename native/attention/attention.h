// Attention over paged keys and values: what a call is, how a block lies in memory, what each set of instructions
// provides.
//
// A block holds S tokens of G heads of D numbers, for keys and for values alike, as [G][S * D]. Where S and D are
// multiples of 16 (LANE_TOKENS), 16 tokens lie together so that no vector needs a shuffle:
//   float16, float32:  keys [S / 16][D][16],        values [S][D]
//   others:            keys [S / 16][D / 2][16][2], values [S / 2][D][2]: pairs as dot-product instructions want them
// Else both lie as [S][G][D], and each step copies them into that form. The layout depends on S, D and the type alone.
//
// Types of eight bits are widened in registers; for many rows once a step, into memory that stays in a cache. int8 has
// a float32 scale for each token and head: behind a block's numbers as [G][S], or behind each D numbers of [S][G][D].
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
constexpr int TILE_ROWS = 48;   // queries x heads that are computed together
constexpr int BLOCK_ROWS = 6;   // of them, those whose sums stay in registers
constexpr int TILE_BLOCKS = TILE_ROWS / BLOCK_ROWS;

// Of keys and values; those before NUM_QUERY_TYPES of queries and results too.
enum Type : int { BF16 = 0, F16 = 1, F32 = 2, NUM_QUERY_TYPES = 3, FP8 = 3, INT8 = 4 };
constexpr int NUM_KERNELS = 9;
constexpr int MAX_EIGHT_BIT_HEAD = 1024;

// Which kernel serves keys of one type and queries of another, which is the same where it is not of eight bits.
constexpr int kernel_of(int type, int query_type) {
  return type < NUM_QUERY_TYPES ? type : NUM_QUERY_TYPES * (1 + type - FP8) + query_type;
}

inline int64_t padded(int64_t head_size) { return (head_size + LANE_TOKENS - 1) / LANE_TOKENS * LANE_TOKENS; }

struct Cache {
  void *keys, *values;
  int64_t block_size, num_kv_heads, head_size;
  Type type;

  bool is_interleaved() const { return block_size % LANE_TOKENS == 0 && head_size % LANE_TOKENS == 0; }
  int64_t number_bytes() const { return type == F32 ? 4 : type >= FP8 ? 1 : 2; }
  // Of one token's head.
  int64_t head_bytes() const { return head_size * number_bytes() + (type == INT8 ? 4 : 0); }
  int64_t block_bytes() const { return block_size * num_kv_heads * head_bytes(); }
  // Where a token's head lies in a plane that is not interleaved.
  int64_t row_at(int64_t slot, int64_t kv_head) const { return (slot * num_kv_heads + kv_head) * head_bytes(); }
  // Where the 16 tokens lie that a slot belongs to, and their scales.
  int64_t group_at(int64_t slot, int64_t kv_head) const {
    const int64_t within = slot % block_size / LANE_TOKENS * LANE_TOKENS;
    return slot / block_size * block_bytes() + (kv_head * block_size + within) * head_size * number_bytes();
  }
  int64_t scales_at(int64_t slot, int64_t kv_head) const {
    const int64_t within = slot % block_size / LANE_TOKENS * LANE_TOKENS;
    return slot / block_size * block_bytes() + block_size * num_kv_heads * head_size +
           (kv_head * block_size + within) * 4;
  }
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
  const void *q;  // rows of [num_heads, head_size], q_stride apart (in numbers)
  int64_t q_stride;
  void *out;  // [tokens, num_heads, head_size]
  int64_t num_heads;
  const int32_t *table;  // block ids of a row, table_stride apart
  int64_t table_stride;
  int64_t window;  // 0: none
  float scale;
  float soft_cap;   // 0: none
  float *partials;  // states of items that several threads share
  Type query_type = BF16;  // of q and out: the cache's, unless that has eight bits
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
  const int64_t floats = TILE_ROWS * width + 2 * TILE_ROWS * STEP_TOKENS + 2 * TILE_ROWS +
                         2 * State::floats(TILE_ROWS, width) + (4 * STEP_TOKENS + LANE_TOKENS) * width +
                         2 * STEP_TOKENS + LANE_TOKENS;
  return (floats * 4 + 4095) / 4096 * 4096;
}

struct Kernels {
  // `next`: the segment that the thread computes afterwards, or nullptr; its first keys are fetched early.
  void (*compute[NUM_KERNELS])(const Call &, const Segment &, const Segment *next, char *scratch);
  // Fold `count` states that lie one after the other and write the result of the segment's queries.
  void (*fold[NUM_KERNELS])(const Call &, const Segment &, float *states, int64_t count);
  // `count` numbers of a query type to eight bits; for int8 also what they are to be multiplied with.
  void (*to_fp8[NUM_QUERY_TYPES])(const void *from, uint8_t *to, int64_t count);
  float (*to_int8[NUM_QUERY_TYPES])(const void *from, uint8_t *to, int64_t count);
};

extern const Kernels kernels_portable;
extern const Kernels kernels_avx2, kernels_avx512, kernels_avx512bf16;  // of x86-64
extern const Kernels kernels_neon, kernels_neonbf16;                    // of 64-bit Arm

}  // namespace quire::attention
