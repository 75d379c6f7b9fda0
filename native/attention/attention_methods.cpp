// Python's view of the family attention: arguments in, kernels of the instructions in use called.
#include "arguments.h"
#include "attention/attention.h"
#include "attention/schedule.h"
#include "attention/write.h"
#include "isa.h"
#include "parallel.h"

namespace {

using namespace quire::attention;

const Kernels *kernels_in_use() {
#if defined(__x86_64__)
  static const Kernels *const tables[] = {&kernels_portable, &kernels_avx2, &kernels_avx512, &kernels_avx512bf16};
#else
  static const Kernels *const tables[] = {&kernels_portable, nullptr, nullptr, nullptr};
#endif
  return quire::kernels_for(tables);
}

Cache take_cache(quire::Arguments &arguments) {
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
// stride, slots, number of tokens)
PyObject *write_method(PyObject *, PyObject *const *args, Py_ssize_t count) {
  quire::Arguments arguments(args, count);
  if (!arguments.expect(13, "attention_write")) return nullptr;
  const Cache cache = take_cache(arguments);
  const int64_t num_slots = arguments.integer() * cache.block_size;
  NewTokens tokens;
  tokens.keys = arguments.pointer<const void>();
  tokens.key_stride = arguments.integer();
  tokens.values = arguments.pointer<const void>();
  tokens.value_stride = arguments.integer();
  tokens.slots = arguments.pointer<const int64_t>();
  tokens.count = arguments.integer();
  if (arguments.failed()) return nullptr;
  for (int64_t t = 0; t < tokens.count; ++t)
    if (uint64_t(tokens.slots[t]) >= uint64_t(num_slots))
      return PyErr_Format(PyExc_ValueError, "Token %lld goes to slot %lld; there are %lld.", (long long)t,
                          (long long)tokens.slots[t], (long long)num_slots);
  const int64_t numbers = tokens.count * cache.num_kv_heads * cache.head_size;
  quire::WithoutLock unlocked(double(numbers) * 8);
  quire::in_parallel(tokens.count * cache.num_kv_heads, 1 + 4096 / cache.head_size, [&](int64_t begin, int64_t end) {
    while (begin < end) {
      const int64_t head = begin / tokens.count, first = begin % tokens.count;
      const int64_t last = first + end - begin < tokens.count ? first + end - begin : tokens.count;
      write(cache, tokens, head, first, last);
      begin += last - first;
    }
  });
  Py_RETURN_NONE;
}

// A tuple of whole numbers copied to `to`; false with an exception when it is none.
bool copy_tuple(PyObject *tuple, int64_t *to, Py_ssize_t count) {
  for (Py_ssize_t i = 0; i < count; ++i) {
    PyObject *item = PyTuple_GetItem(tuple, i);
    if (item == nullptr) return false;
    to[i] = PyLong_AsLongLong(item);
  }
  return PyErr_Occurred() == nullptr;
}

PyObject *schedule_of(const Rows &rows, const Shape &shape, int64_t num_threads) {
  PyObject *made = PyBytes_FromStringAndSize(nullptr, Py_ssize_t(Schedule::bytes(rows, shape, num_threads)));
  if (made != nullptr) Schedule::make(PyBytes_AsString(made), rows, shape, num_threads);
  return made;
}

// (starts, lengths, num_heads, num_kv_heads, head_size, window) -> bytes, for the threads that there are now
PyObject *schedule_method(PyObject *, PyObject *const *args, Py_ssize_t count) {
  quire::Arguments arguments(args + 2, count - 2);
  if (!arguments.expect(4, "attention_schedule, after starts and lengths,")) return nullptr;
  Shape shape;
  shape.num_heads = arguments.integer();
  shape.num_kv_heads = arguments.integer();
  shape.head_size = arguments.integer();
  shape.window = arguments.integer();
  const Py_ssize_t num_rows = PyTuple_Size(args[1]);
  if (arguments.failed()) return nullptr;
  int64_t *memory = static_cast<int64_t *>(PyMem_Malloc(size_t(2 * num_rows + 1) * sizeof(int64_t)));
  if (memory == nullptr) return PyErr_NoMemory();
  PyObject *made = nullptr;
  if (copy_tuple(args[0], memory, num_rows + 1) && copy_tuple(args[1], memory + num_rows + 1, num_rows))
    made = schedule_of({num_rows, memory, memory + num_rows + 1}, shape, omp_get_max_threads());
  PyMem_Free(memory);
  return made;
}

Schedule *schedule_in(PyObject *bytes) { return reinterpret_cast<Schedule *>(PyBytes_AsString(bytes)); }

// (schedule, head_size) -> bytes that a call with it needs as memory
PyObject *memory_method(PyObject *, PyObject *const *args, Py_ssize_t count) {
  quire::Arguments arguments(args + 1, count - 1);
  if (!arguments.expect(1, "attention_memory, after a schedule,")) return nullptr;
  const int64_t head_size = arguments.integer();
  Schedule *schedule = schedule_in(args[0]);
  if (schedule == nullptr || arguments.failed()) return nullptr;
  return PyLong_FromLongLong(schedule->num_threads * scratch_bytes(head_size) + schedule->partial_lines * 64);
}

void compute(const Call &call, Schedule &schedule, char *memory) {
  const Kernels *kernels = kernels_in_use();
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
        kernels->compute[call.cache.type](call, *segment, segment + 1 < end ? segment + 1 : nullptr,
                                          memory + thread * scratch);
    }
    if (schedule.num_folds > 0) {
#pragma omp barrier
      for (int32_t i = thread; i < schedule.num_folds; i += num_threads) {
        const Fold &fold = schedule.folds()[i];
        kernels->fold[call.cache.type](call, schedule.segments()[fold.segment],
                                       call.partials + int64_t(fold.partial) * 16, fold.count);
      }
    }
  }
}

// (schedule, memory, keys, values, block_size, num_kv_heads, head_size, type, q, its stride, out, num_heads, table, its
// stride, window, scale, soft_cap)
PyObject *attend_method(PyObject *, PyObject *const *args, Py_ssize_t count) {
  quire::Arguments arguments(args + 1, count - 1);
  if (!arguments.expect(16, "attention, after a schedule,")) return nullptr;
  Schedule *schedule = schedule_in(args[0]);
  if (schedule == nullptr) return nullptr;
  char *memory = arguments.pointer<char>();
  Call call;
  call.cache = take_cache(arguments);
  call.q = arguments.pointer<const void>();
  call.q_stride = arguments.integer();
  call.out = arguments.pointer<void>();
  call.num_heads = arguments.integer();
  call.table = arguments.pointer<const int32_t>();
  call.table_stride = arguments.integer();
  call.window = arguments.integer();
  call.scale = float(arguments.real());
  call.soft_cap = float(arguments.real());
  if (arguments.failed()) return nullptr;
  call.partials =
      reinterpret_cast<float *>(memory + schedule->num_threads * scratch_bytes(call.cache.head_size));
  quire::WithoutLock unlocked(double(schedule->cost) * double(STEP_TOKENS * call.cache.head_size));
  compute(call, *schedule, memory);
  Py_RETURN_NONE;
}

PyMethodDef methods[] = {
    quire::method("attention_write", write_method, "New keys and values into their slots."),
    quire::method("attention_schedule", schedule_method, "Which thread computes what, for a step's rows."),
    quire::method("attention_memory", memory_method, "Bytes of memory that a call with a schedule needs."),
    quire::method("attention", attend_method, "Attention of a step's tokens over their rows' keys."),
    {nullptr, nullptr, 0, nullptr}};

}  // namespace

PyMethodDef *attention_methods() { return methods; }
