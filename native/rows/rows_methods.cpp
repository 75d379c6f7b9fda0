// Python's view of the family rows: arguments in, kernels of the instructions in use called.
#include <Python.h>

#include <cstdlib>

#include "arguments.h"
#include "isa.h"
#include "parallel.h"
#include "rows.h"

namespace {

using namespace quire;

const RowKernels &kernels() {
#if defined(__x86_64__)
  static const RowKernels *const tables[4] = {&rows_portable, &rows_avx2, &rows_avx512, &rows_avx512bf16};
#else
  static const RowKernels *const tables[4] = {&rows_portable, nullptr, nullptr, nullptr};
#endif
  return *kernels_for(tables);
}

PyObject *rms_norm(PyObject *, PyObject *const *values, Py_ssize_t count) {
  Arguments arguments(values, count);
  if (!arguments.expect(9, "rms_norm")) return nullptr;
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
  if (arguments.failed()) return nullptr;
  {
    const WithoutLock unlocked(double(norm.rows) * double(norm.size));
    kernels().norm(norm);
  }
  Py_RETURN_NONE;
}

PyObject *turn_heads(PyObject *, PyObject *const *values, Py_ssize_t count) {
  Arguments arguments(values, count);
  if (!arguments.expect(14, "turn_heads")) return nullptr;
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
  if (arguments.failed()) return nullptr;
  if (heads.size > MAX_HEAD_SIZE || 2 * heads.frequencies > heads.size)
    return PyErr_Format(PyExc_ValueError, "Heads of %lld numbers that turn %lld are not taken; %lld are, all turned.",
                        (long long)heads.size, (long long)(2 * heads.frequencies), (long long)MAX_HEAD_SIZE);
  {
    const WithoutLock unlocked(double(heads.tokens) * double((heads.queries + heads.keys) * heads.size));
    kernels().heads(heads);
  }
  Py_RETURN_NONE;
}

PyObject *gate(PyObject *, PyObject *const *values, Py_ssize_t count) {
  Arguments arguments(values, count);
  if (!arguments.expect(6, "gate")) return nullptr;
  Gate gate;
  gate.dtype = static_cast<DType>(arguments.integer());
  gate.activation = static_cast<Activation>(arguments.integer());
  gate.gate_up = arguments.pointer<void>();
  gate.out = arguments.pointer<void>();
  gate.rows = arguments.integer();
  gate.size = arguments.integer();
  if (arguments.failed()) return nullptr;
  {
    const WithoutLock unlocked(8.0 * double(gate.rows) * double(gate.size));
    kernels().gate(gate);
  }
  Py_RETURN_NONE;
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
  Arguments arguments(values, count);
  if (!arguments.expect(4, "greedy")) return nullptr;
  const float *logits = arguments.pointer<const float>();
  const int64_t rows = arguments.integer(), size = arguments.integer(), stride = arguments.integer();
  if (arguments.failed()) return nullptr;
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
  Arguments arguments(values, count);
  if (!arguments.expect(3, "uniform")) return nullptr;
  uint64_t numbers[3];
  for (int i = 0; i < 3; ++i) numbers[i] = PyLong_AsUnsignedLongLongMask(values[i]);
  if (arguments.failed()) return nullptr;
  return PyFloat_FromDouble(uniform(numbers[0], numbers[1], numbers[2]));
}

// For each place of five lists: the token of logits' line lines[i] as the column rows[i] asks, at the number of the
// other three.
PyObject *draw(PyObject *, PyObject *const *values, Py_ssize_t count) {
  Arguments arguments(values, count);
  if (!arguments.expect(9, "draw")) return nullptr;
  const float *logits = arguments.pointer<const float>();
  const int64_t stride = arguments.integer(), size = arguments.integer();
  const DrawColumn *columns = arguments.pointer<const DrawColumn>();
  if (arguments.failed()) return nullptr;
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

PyMethodDef methods[] = {
    method("rms_norm", rms_norm, "x += added, where there is one; out = norm(x)."),
    method("turn_heads", turn_heads, "Normalise, where there are weights, and turn query and key heads in place."),
    method("gate", gate, "out = activation(gate) * up."),
    method("greedy", greedy, "For each row the lowest id of its largest logit; -1 where one is NaN or infinite."),
    method("uniform", uniform_number, "The number in [0, 1) of a seed, a sample index and a position."),
    method("draw", draw, "A token for each row that asks chance."),
    {nullptr, nullptr, 0, nullptr}};

}  // namespace

PyMethodDef *rows_methods() { return methods; }
