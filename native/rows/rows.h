// The kernels of one instruction set for everything between the matrix products. All work row by row: what a row gives
// depends on nothing but the row.
#pragma once

#include <cstdint>

namespace quire {

enum DType : int64_t { FLOAT32 = 0, BFLOAT16 = 1, FLOAT16 = 2 };
enum Activation : int64_t { SILU = 0, GELU = 1, GELU_TANH = 2, RELU = 3 };

struct Norm {
  DType dtype;
  void *x;            // [rows, size]; `added` is added to it in place, where there is one
  const void *added;  // [rows, size] or nullptr
  void *out;          // [rows, size]
  const void *weight;
  int64_t rows, size;
  float eps;
  bool plus_one;
};

struct Heads {
  DType dtype;
  void *heads;  // [tokens, more heads, size]: the first `queries` heads and the `keys` behind them are turned in place
  const float *cosine, *sine;  // [tokens, frequencies]
  const void *query_weight, *key_weight;  // [size] each, or nullptr: no norm
  int64_t tokens, token_stride, queries, keys, size, frequencies;
  float eps;
  bool plus_one;
};

struct Gate {
  DType dtype;
  Activation activation;
  const void *gate_up;  // [rows, 2, size]
  void *out;            // [rows, size]
  int64_t rows, size;
};

struct Rotation {
  const int64_t *positions;  // [tokens]
  const float *frequencies;  // [frequencies_count]
  float *cosine, *sine;      // [tokens, frequencies_count]
  int64_t tokens, frequencies_count;
  float factor;  // of cosine and sine
};

struct Scale {
  DType dtype;
  void *x;  // changed in place
  int64_t count;
  float factor;
};

struct Cap {
  float *x;  // becomes cap * tanh(x / cap)
  int64_t count;
  float cap;
};

struct Segment {
  float value;
  int64_t id;  // -1: NaN or infinity was met
};

// What one row of the table asks of chance; quire/sampling/chance_native.py has the same fields.
struct DrawColumn {
  float temperature;  // 1: the logits as they are
  float log_min_p;    // minus infinity: off
  int64_t top_k;      // 0: off
  double top_p;       // 1: off
};

struct Logprob {
  int64_t id;
  float value;
  int64_t rank;
};

struct LogprobsAsked {
  const int64_t *named;
  int64_t num_named, num_top;  // one of them is 0
};

struct RowKernels {
  void (*norm)(const Norm &);
  void (*heads)(const Heads &);
  void (*gate)(const Gate &);
  void (*rotation)(const Rotation &);
  void (*scale)(const Scale &);
  void (*cap)(const Cap &);
  // The largest of logits[begin:end], and the lowest id that has it.
  Segment (*largest)(const float *logits, int64_t begin, int64_t end);
  // The token of a row at a uniform number in [0, 1).
  int64_t (*draw)(const float *logits, int64_t size, const DrawColumn &asked, double uniform, void *scratch);
  // Logprobs of one row: of its own token, of the named ones, and of the likeliest ones up to out_end.
  void (*logprobs)(const float *logits, int64_t size, const LogprobsAsked &asked, int64_t own_id, const Logprob *out_end,
                   Logprob *out, void *scratch);
};

extern const RowKernels rows_portable;
extern const RowKernels rows_avx2, rows_avx512, rows_avx512bf16;  // of x86-64
extern const RowKernels rows_neon, rows_neonbf16;                 // of 64-bit Arm

constexpr int64_t MAX_HEAD_SIZE = 512;

// For a row of this size; of it little is touched.
constexpr int64_t draw_scratch_bytes(int64_t size) { return 16 * size + 12 * (size / 64 + 1) + 64; }

}  // namespace quire
