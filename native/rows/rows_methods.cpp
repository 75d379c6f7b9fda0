// Python's view of the family rows: arguments in, kernels of the instructions in use called.
#include <Python.h>

#include <cstdlib>
#include <cstring>

#include "arguments.h"
#include "isa.h"
#include "parallel.h"
#include "penalties.h"
#include "rows.h"

namespace {

using namespace quire;

const RowKernels &kernels() {
  static const RowKernels *const tables[] = QUIRE_TABLES(rows);
  return *kernels_for(tables);
}

void rms_norm(Arguments &arguments) {
  Norm norm;
  norm.dtype = static_cast<DType>(arguments.integer());
  norm.x = arguments.pointer<void>();
  norm.added = arguments.pointer<void>();
  norm.out = arguments.pointer<void>();
  norm.weight = arguments.pointer<void>();
  norm.rows = arguments.integer();
  norm.size = arguments.integer();
  norm.eps = static_cast<float>(arguments.real());
  norm.plus_one = arguments.integer() != 0;
  const WithoutLock unlocked(arguments, double(norm.rows) * double(norm.size));
  kernels().norm(norm);
}

void turn_heads(Arguments &arguments) {
  Heads heads;
  heads.dtype = static_cast<DType>(arguments.integer());
  heads.heads = arguments.pointer<void>();
  heads.cosine = arguments.pointer<float>();
  heads.sine = arguments.pointer<float>();
  heads.query_weight = arguments.pointer<void>();
  heads.key_weight = arguments.pointer<void>();
  heads.tokens = arguments.integer();
  heads.token_stride = arguments.integer();
  heads.queries = arguments.integer();
  heads.keys = arguments.integer();
  heads.size = arguments.integer();
  heads.frequencies = arguments.integer();
  heads.eps = static_cast<float>(arguments.real());
  heads.plus_one = arguments.integer() != 0;
  if (heads.size > MAX_HEAD_SIZE || 2 * heads.frequencies > heads.size)
    return arguments.fail(Fault::VALUE, "Heads of %lld numbers that turn %lld are not taken; %lld are, all turned.",
                          (long long)heads.size, (long long)(2 * heads.frequencies), (long long)MAX_HEAD_SIZE);
  const WithoutLock unlocked(arguments, double(heads.tokens) * double((heads.queries + heads.keys) * heads.size));
  kernels().heads(heads);
}

void gate(Arguments &arguments) {
  Gate gate;
  gate.dtype = static_cast<DType>(arguments.integer());
  gate.activation = static_cast<Activation>(arguments.integer());
  gate.gate_up = arguments.pointer<void>();
  gate.out = arguments.pointer<void>();
  gate.rows = arguments.integer();
  gate.size = arguments.integer();
  const WithoutLock unlocked(arguments, 8.0 * double(gate.rows) * double(gate.size));
  kernels().gate(gate);
}

void rotation(Arguments &arguments) {
  Rotation asked;
  asked.positions = arguments.pointer<const int64_t>();
  asked.frequencies = arguments.pointer<const float>();
  asked.cosine = arguments.pointer<float>();
  asked.sine = arguments.pointer<float>();
  asked.tokens = arguments.integer();
  asked.frequencies_count = arguments.integer();
  asked.factor = static_cast<float>(arguments.real());
  const WithoutLock unlocked(arguments, 16.0 * double(asked.tokens) * double(asked.frequencies_count));
  kernels().rotation(asked);
}

void scale(Arguments &arguments) {
  Scale asked;
  asked.dtype = static_cast<DType>(arguments.integer());
  asked.x = arguments.pointer<void>();
  asked.count = arguments.integer();
  asked.factor = static_cast<float>(arguments.real());
  const WithoutLock unlocked(arguments, double(asked.count));
  kernels().scale(asked);
}

void cap(Arguments &arguments) {
  Cap asked;
  asked.x = arguments.pointer<float>();
  asked.count = arguments.integer();
  asked.cap = static_cast<float>(arguments.real());
  const WithoutLock unlocked(arguments, 16.0 * double(asked.count));
  kernels().cap(asked);
}

// out = table[ids], rows of so many bytes.
void take_rows(Arguments &arguments) {
  const char *table = arguments.pointer<const char>();
  const int64_t num_rows = arguments.integer(), bytes = arguments.integer();
  const int64_t *ids = arguments.pointer<const int64_t>();
  const int64_t count = arguments.integer();
  char *out = arguments.pointer<char>();
  for (int64_t i = 0; i < count; ++i)
    if (ids[i] < 0 || ids[i] >= num_rows)
      return arguments.fail(Fault::INDEX, "Row %lld was asked for; there are %lld.", (long long)ids[i],
                            (long long)num_rows);
  const WithoutLock unlocked(arguments, double(count) * double(bytes));
  in_parallel(count, 1 + (1 << 15) / bytes, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) std::memcpy(out + i * bytes, table + ids[i] * bytes, size_t(bytes));
  });
}

// Integers of a Python list, modulo 2^64; false, with the exception set, where they are none or another number of them.
bool read_list(PyObject *list, Py_ssize_t count, int64_t *to) {
  if (PyList_Size(list) != count) {
    if (PyErr_Occurred() == nullptr) PyErr_SetString(PyExc_ValueError, "The lists are not of equal lengths.");
    return false;
  }
  for (Py_ssize_t i = 0; i < count; ++i) to[i] = int64_t(PyLong_AsUnsignedLongLongMask(PyList_GetItem(list, i)));
  return PyErr_Occurred() == nullptr;
}

PyObject *list_of(const int64_t *from, Py_ssize_t count) {
  PyObject *list = PyList_New(count);
  for (Py_ssize_t i = 0; list != nullptr && i < count; ++i) {
    PyObject *number = PyLong_FromLongLong(from[i]);
    if (number == nullptr || PyList_SetItem(list, i, number) != 0) {
      Py_DECREF(list);
      list = nullptr;
    }
  }
  return list;
}

// Ids of the largest of each row; rows are cut into segments, so that one row can use all threads.
PyObject *greedy(PyObject *, PyObject *const *values, Py_ssize_t count) {
  Value numbers[4];
  if (!read_values("greedy", "iiii", values, count, numbers)) return nullptr;
  Failure failure;
  Arguments arguments(numbers, failure, true);
  const float *logits = arguments.pointer<const float>();
  const int64_t rows = arguments.integer(), size = arguments.integer(), stride = arguments.integer();
  constexpr int64_t SEGMENT = 1 << 15;
  const int64_t pieces = (size + SEGMENT - 1) / SEGMENT;
  Segment *found = static_cast<Segment *>(std::malloc(size_t(rows * (pieces + 1) + 1) * sizeof(Segment)));
  if (found == nullptr) return PyErr_NoMemory();
  {
    const WithoutLock unlocked(double(rows) * double(size));
    in_parallel(rows * pieces, 1 + SEGMENT / size, [&](int64_t begin, int64_t end) {
      for (int64_t unit = begin; unit < end; ++unit) {
        const int64_t from = unit % pieces * SEGMENT, to = from + SEGMENT < size ? from + SEGMENT : size;
        found[unit] = kernels().largest(logits + unit / pieces * stride, from, to);
      }
    });
  }
  int64_t *best_ids = reinterpret_cast<int64_t *>(found + rows * pieces);
  for (int64_t row = 0; row < rows; ++row) {
    Segment best = found[row * pieces];
    for (int64_t piece = 1; piece < pieces && best.id >= 0; ++piece) {
      const Segment &next = found[row * pieces + piece];
      if (next.id < 0 || next.value > best.value) best = next;
    }
    best_ids[row] = best.id;
  }
  PyObject *ids = list_of(best_ids, rows);
  std::free(found);
  return ids;
}

uint64_t mixed(uint64_t state) {
  state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9u;
  state = (state ^ (state >> 27)) * 0x94D049BB133111EBu;
  return state ^ (state >> 31);
}

// quire/sampling/noise.py's hash of three integers.
double uniform(uint64_t seed, uint64_t sample_index, uint64_t position) {
  constexpr uint64_t GAMMA = 0x9E3779B97F4A7C15u;
  const uint64_t state = mixed(mixed(mixed(GAMMA + seed) + GAMMA + sample_index) + GAMMA + position);
  return double(state >> 11) * 0x1p-53;
}

PyObject *uniform_number(PyObject *, PyObject *const *values, Py_ssize_t count) {
  Value unread[3];
  if (!read_values("uniform", "ooo", values, count, unread)) return nullptr;
  uint64_t numbers[3];
  for (int i = 0; i < 3; ++i) numbers[i] = PyLong_AsUnsignedLongLongMask(values[i]);
  if (PyErr_Occurred() != nullptr) return nullptr;
  return PyFloat_FromDouble(uniform(numbers[0], numbers[1], numbers[2]));
}

// For each place of five lists: the token of logits' line lines[i] as the column rows[i] asks, at the number of the
// other three.
PyObject *draw(PyObject *, PyObject *const *values, Py_ssize_t count) {
  Value given[9];
  if (!read_values("draw", "iiiiooooo", values, count, given)) return nullptr;
  Failure failure;
  Arguments arguments(given, failure, true);
  const float *logits = arguments.pointer<const float>();
  const int64_t stride = arguments.integer(), size = arguments.integer();
  const DrawColumn *columns = arguments.pointer<const DrawColumn>();
  const Py_ssize_t draws = PyList_Size(values[4]);
  if (draws < 0) return nullptr;
  int64_t *numbers = static_cast<int64_t *>(std::malloc(size_t(5 * draws + 1) * sizeof(int64_t)));
  if (numbers == nullptr) return PyErr_NoMemory();
  for (int list = 0; list < 5; ++list) {
    if (read_list(values[4 + list], draws, numbers + list * draws)) continue;
    std::free(numbers);
    return nullptr;
  }
  int64_t *lines = numbers;
  const int64_t *rows = numbers + draws;
  const uint64_t *seeds = reinterpret_cast<const uint64_t *>(rows + draws);
  const uint64_t *indices = seeds + draws, *positions = indices + draws;
  bool lacks_memory = false;
  {
    const WithoutLock unlocked(double(draws) * double(size));
    in_parallel(draws, 1 + (1 << 13) / size, [&](int64_t begin, int64_t end) {
      void *scratch = std::malloc(size_t(draw_scratch_bytes(size)));
      if (scratch == nullptr) lacks_memory = true;
      for (int64_t i = begin; scratch != nullptr && i < end; ++i) {
        const double number = uniform(seeds[i], indices[i], positions[i]);
        lines[i] = kernels().draw(logits + lines[i] * stride, size, columns[rows[i]], number, scratch);
      }
      std::free(scratch);
    });
  }
  PyObject *tokens = lacks_memory ? PyErr_NoMemory() : list_of(lines, draws);
  std::free(numbers);
  return tokens;
}

// A tuple of one field of logprobs.
template <typename Make>
PyObject *tuple_of(const Logprob *from, int64_t count, const Make &make) {
  PyObject *tuple = PyTuple_New(count);
  for (int64_t i = 0; tuple != nullptr && i < count; ++i) {
    PyObject *item = make(from[i]);
    if (item == nullptr || PyTuple_SetItem(tuple, i, item) != 0) {
      Py_DECREF(tuple);
      tuple = nullptr;
    }
  }
  return tuple;
}

PyObject *rows_of(const Logprob *from, Py_ssize_t rows, int64_t width) {
  PyObject *list = PyList_New(rows);
  for (Py_ssize_t row = 0; list != nullptr && row < rows; ++row, from += width) {
    PyObject *ids = tuple_of(from, width, [](const Logprob &one) { return PyLong_FromLongLong(one.id); });
    PyObject *values = tuple_of(from, width, [](const Logprob &one) { return PyFloat_FromDouble(one.value); });
    PyObject *ranks = tuple_of(from, width, [](const Logprob &one) { return PyLong_FromLongLong(one.rank); });
    PyObject *three = ids && values && ranks ? PyTuple_Pack(3, ids, values, ranks) : nullptr;
    Py_XDECREF(ids);
    Py_XDECREF(values);
    Py_XDECREF(ranks);
    if (three == nullptr || PyList_SetItem(list, row, three) != 0) {
      Py_DECREF(list);
      list = nullptr;
    }
  }
  return list;
}

// For each line of logits a tuple of ids, of logprobs and of ranks: the line's own token, then the named ones or else the
// likeliest ones.
PyObject *logprobs(PyObject *, PyObject *const *values, Py_ssize_t count) {
  Value given[7];
  if (!read_values("logprobs", "iiiiooo", values, count, given)) return nullptr;
  Failure failure;
  Arguments arguments(given, failure, true);
  const float *logits = arguments.pointer<const float>();
  const int64_t stride = arguments.integer(), size = arguments.integer();
  LogprobsAsked asked;
  asked.num_top = arguments.integer();
  const Py_ssize_t rows = PyList_Size(values[4]), num_named = PyList_Size(values[6]);
  if (rows < 0 || num_named < 0) return nullptr;
  asked.num_named = num_named;
  if (num_named > 0) asked.num_top = 0;
  const int64_t width = 1 + num_named + asked.num_top;
  const size_t num_bytes = size_t(rows * width) * sizeof(Logprob) + size_t(2 * rows + num_named + 1) * sizeof(int64_t);
  Logprob *found = static_cast<Logprob *>(std::malloc(num_bytes));
  if (found == nullptr) return PyErr_NoMemory();
  int64_t *lines = reinterpret_cast<int64_t *>(found + rows * width), *own = lines + rows, *named = own + rows;
  asked.named = named;
  bool is_read =
      read_list(values[4], rows, lines) && read_list(values[5], rows, own) && read_list(values[6], num_named, named);
  for (int64_t i = rows; is_read && i < 2 * rows + num_named; ++i) {  // own and named, which lie side by side
    if (lines[i] >= 0 && lines[i] < size) continue;
    PyErr_Format(PyExc_IndexError, "Token %lld is not in a vocabulary of %lld.", (long long)lines[i], (long long)size);
    is_read = false;
  }
  bool lacks_memory = false;
  if (is_read) {
    const WithoutLock unlocked(double(rows) * double(size));
    in_parallel(rows, 1 + (1 << 13) / size, [&](int64_t begin, int64_t end) {
      void *scratch = std::malloc(size_t(draw_scratch_bytes(size)));
      if (scratch == nullptr) lacks_memory = true;
      for (int64_t i = begin; scratch != nullptr && i < end; ++i) {
        Logprob *out = found + i * width;
        kernels().logprobs(logits + lines[i] * stride, size, asked, own[i], out + width, out, scratch);
      }
      std::free(scratch);
    });
  }
  PyObject *result = !is_read ? nullptr : lacks_memory ? PyErr_NoMemory() : rows_of(found, rows, width);
  std::free(found);
  return result;
}

void penalise(Arguments &arguments) {
  float *logits = arguments.pointer<float>();
  const int64_t size = arguments.integer();
  const int32_t *ids = arguments.pointer<const int32_t>();
  const int64_t num_ids = arguments.integer(), num_prompt = arguments.integer();
  Penalties penalties;
  penalties.repetition = static_cast<float>(arguments.real());
  penalties.frequency = static_cast<float>(arguments.real());
  penalties.presence = static_cast<float>(arguments.real());
  int32_t *counts = arguments.pointer<int32_t>();
  if (!quire::penalise(logits, size, ids, num_ids, num_prompt, penalties, counts))
    arguments.fail(Fault::INDEX, "A token that was said is not in a vocabulary of %lld.", (long long)size);
}

constexpr Kernel RMS_NORM{"rms_norm", "iiiiiiiri", rms_norm};
constexpr Kernel TURN_HEADS{"turn_heads", "iiiiiiiiiiiiri", turn_heads};
constexpr Kernel GATE{"gate", "iiiiii", gate};
constexpr Kernel ROTATION{"rotation", "iiiiiir", rotation};
constexpr Kernel SCALE{"scale", "iiir", scale};
constexpr Kernel CAP{"cap", "iir", cap};
constexpr Kernel TAKE_ROWS{"take_rows", "iiiiii", take_rows};
constexpr Kernel PENALISE{"penalise", "iiiiirrri", penalise};

PyMethodDef methods[] = {
    method<RMS_NORM>("x += added, where there is one; out = norm(x)."),
    method<TURN_HEADS>("Normalise, where there are weights, and turn query and key heads in place."),
    method<GATE>("out = activation(gate) * up."),
    method<ROTATION>("Cosine and sine of the angles of positions."),
    method<SCALE>("x *= factor."),
    method<CAP>("x = cap * tanh(x / cap)."),
    method<TAKE_ROWS>("out = table[ids]."),
    method("greedy", greedy, "For each row the lowest id of its largest logit; -1 where one is NaN or infinite."),
    method("uniform", uniform_number, "The number in [0, 1) of a seed, a sample index and a position."),
    method("draw", draw, "A token for each row that asks chance."),
    method("logprobs", logprobs, "Ids, logprobs and ranks for each line of logits."),
    method<PENALISE>("Repetition, frequency and presence penalties on one row of logits."),
    {nullptr, nullptr, 0, nullptr}};

}  // namespace

PyMethodDef *rows_methods() { return methods; }
