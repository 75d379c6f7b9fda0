// Python's view of the family attention: arguments in, kernels of the instructions in use called.
#include "arguments.h"
#include "attention/attention.h"
#include "attention/schedule.h"
#include "attention/write.h"
#include "isa.h"
#include "parallel.h"
#include "scratch.h"

namespace {

using namespace quire::attention;
using quire::Arguments;

const Kernels *kernels_in_use() {
  static const Kernels *const tables[] = QUIRE_TABLES(kernels);
  return quire::kernels_for(tables);
}

Cache take_cache(Arguments &arguments) {
  Cache cache;
  cache.keys = arguments.pointer<void>();
  cache.values = arguments.pointer<void>();
  cache.block_size = arguments.integer();
  cache.num_kv_heads = arguments.integer();
  cache.head_size = arguments.integer();
  cache.type = Type(arguments.integer());
  return cache;
}

// (keys, values, block_size, num_kv_heads, head_size, type, num_blocks, new keys, their stride, new values, their
// stride, their type, slots, number of tokens)
void write_tokens(Arguments &arguments) {
  const Cache cache = take_cache(arguments);
  const int64_t num_slots = arguments.integer() * cache.block_size;
  NewTokens tokens;
  tokens.keys = arguments.pointer<const void>();
  tokens.key_stride = arguments.integer();
  tokens.values = arguments.pointer<const void>();
  tokens.value_stride = arguments.integer();
  tokens.type = Type(arguments.integer());
  tokens.slots = arguments.pointer<const int64_t>();
  tokens.count = arguments.integer();
  for (int64_t t = 0; t < tokens.count; ++t)
    if (uint64_t(tokens.slots[t]) >= uint64_t(num_slots))
      return arguments.fail(quire::Fault::VALUE, "Token %lld goes to slot %lld; there are %lld.", (long long)t,
                            (long long)tokens.slots[t], (long long)num_slots);
  tokens.kernels = kernels_in_use();
  const int64_t numbers = tokens.count * cache.num_kv_heads * cache.head_size;
  const quire::WithoutLock unlocked(arguments, double(numbers) * 8);
  quire::in_parallel(tokens.count * cache.num_kv_heads, 1 + 4096 / cache.head_size, [&](int64_t begin, int64_t end) {
    while (begin < end) {
      const int64_t head = begin / tokens.count, first = begin % tokens.count;
      const int64_t last = first + end - begin < tokens.count ? first + end - begin : tokens.count;
      write(cache, tokens, head, first, last);
      begin += last - first;
    }
  });
}

// starts, lengths, number of rows
Rows take_rows(Arguments &arguments) {
  Rows rows;
  rows.starts = arguments.pointer<const int64_t>();
  rows.lengths = arguments.pointer<const int64_t>();
  rows.count = arguments.integer();
  return rows;
}

// num_heads, num_kv_heads, head_size, window
Shape take_shape(Arguments &arguments) {
  Shape shape;
  shape.num_heads = arguments.integer();
  shape.num_kv_heads = arguments.integer();
  shape.head_size = arguments.integer();
  shape.window = arguments.integer();
  return shape;
}

// (rows, shape) -> bytes that a schedule of so many rows with so many tokens each takes, whatever their lengths
PyObject *schedule_bytes(PyObject *, PyObject *const *values, Py_ssize_t count) {
  quire::Value numbers[7];
  if (!quire::read_values("attention_schedule_bytes", "iiiiiii", values, count, numbers)) return nullptr;
  quire::Failure failure;
  Arguments arguments(numbers, failure, true);
  const Rows rows = take_rows(arguments);
  return PyLong_FromLongLong(Schedule::bytes(rows, take_shape(arguments), omp_get_max_threads()));
}

// (rows, shape, schedule, its bytes): for the threads that there are now
void make_schedule(Arguments &arguments) {
  const Rows rows = take_rows(arguments);
  const Shape shape = take_shape(arguments);
  void *schedule = arguments.pointer<void>();
  const int64_t capacity = arguments.integer(), num_threads = omp_get_max_threads();
  const int64_t bytes = Schedule::bytes(rows, shape, num_threads);
  if (bytes > capacity)
    return arguments.fail(quire::Fault::VALUE, "The schedule of %lld rows for %lld threads takes %lld bytes, not %lld.",
                          (long long)rows.count, (long long)num_threads, (long long)bytes, (long long)capacity);
  Schedule::make(schedule, rows, shape, num_threads);
}

void compute(const Call &call, Schedule &schedule, char *memory) {
  const Kernels *kernels = kernels_in_use();
  const int kernel = kernel_of(call.cache.type, call.query_type);
  const int64_t scratch = scratch_bytes(call.cache.head_size);
  int32_t taken = 0;
#pragma omp parallel num_threads(schedule.num_threads) if (schedule.num_threads > 1)
  {
    const int thread = omp_get_thread_num(), num_threads = omp_get_num_threads();
    for (;;) {
      const int32_t piece = __atomic_fetch_add(&taken, 1, __ATOMIC_RELAXED);
      if (piece >= schedule.num_pieces) break;
      const Segment *segment = schedule.segments() + schedule.pieces()[piece];
      const Segment *const end = schedule.segments() + schedule.pieces()[piece + 1];
      for (; segment < end; ++segment)
        kernels->compute[kernel](call, *segment, segment + 1 < end ? segment + 1 : nullptr,
                                          memory + thread * scratch);
    }
    if (schedule.num_folds > 0) {
#pragma omp barrier
      for (int32_t i = thread; i < schedule.num_folds; i += num_threads) {
        const Fold &fold = schedule.folds()[i];
        kernels->fold[kernel](call, schedule.segments()[fold.segment],
                                       call.partials + int64_t(fold.partial) * 16, fold.count);
      }
    }
  }
}

// (schedule, keys, values, block_size, num_kv_heads, head_size, type, q, its stride, its type, out, num_heads, table,
// its stride, window, scale, soft_cap)
void attend(Arguments &arguments) {
  Schedule &schedule = *arguments.pointer<Schedule>();
  Call call;
  call.cache = take_cache(arguments);
  call.q = arguments.pointer<const void>();
  call.q_stride = arguments.integer();
  call.query_type = Type(arguments.integer());
  call.out = arguments.pointer<void>();
  call.num_heads = arguments.integer();
  call.table = arguments.pointer<const int32_t>();
  call.table_stride = arguments.integer();
  call.window = arguments.integer();
  call.scale = float(arguments.real());
  call.soft_cap = float(arguments.real());
  const int64_t of_threads = schedule.num_threads * scratch_bytes(call.cache.head_size);
  char *memory = quire::scratch(of_threads + schedule.partial_lines * 64);
  if (memory == nullptr) return arguments.fail_for_memory();
  call.partials = reinterpret_cast<float *>(memory + of_threads);
  const quire::WithoutLock unlocked(arguments, double(schedule.cost) * double(STEP_TOKENS * call.cache.head_size));
  compute(call, schedule, memory);
}

constexpr quire::Kernel WRITE{"attention_write", "iiiiiiiiiiiiii", write_tokens};
constexpr quire::Kernel SCHEDULE{"attention_schedule", "iiiiiiiii", make_schedule};
constexpr quire::Kernel ATTEND{"attention", "iiiiiiiiiiiiiiirr", attend};

PyMethodDef methods[] = {
    quire::method<WRITE>("New keys and values into their slots."),
    quire::method("attention_schedule_bytes", schedule_bytes, "Bytes that a schedule of some rows takes."),
    quire::method<SCHEDULE>("Which thread computes what, for a step's rows."),
    quire::method<ATTEND>("Attention of a step's tokens over their rows' keys."),
    {nullptr, nullptr, 0, nullptr}};

}  // namespace

PyMethodDef *attention_methods() { return methods; }
