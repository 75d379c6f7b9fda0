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
  static const RowKernels *const tables[4] = {&rows_portable, &rows_avx2, &rows_avx512, nullptr};
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

// Ids of the largest of each row; rows are cut into segments, so that one row can use all threads.
PyObject *greedy(PyObject *, PyObject *const *values, Py_ssize_t count) {
  Arguments arguments(values, count);
  if (!arguments.expect(4, "greedy")) return nullptr;
  const float *logits = arguments.pointer<const float>();
  const int64_t rows = arguments.integer(), size = arguments.integer(), stride = arguments.integer();
  if (arguments.failed()) return nullptr;
  constexpr int64_t SEGMENT = 1 << 15;
  const int64_t pieces = (size + SEGMENT - 1) / SEGMENT;
  Segment *found = static_cast<Segment *>(std::malloc(size_t(rows * pieces + 1) * sizeof(Segment)));
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
  PyObject *ids = PyList_New(rows);
  for (int64_t row = 0; ids != nullptr && row < rows; ++row) {
    Segment best = found[row * pieces];
    for (int64_t piece = 1; piece < pieces && best.id >= 0; ++piece) {
      const Segment &next = found[row * pieces + piece];
      if (next.id < 0 || next.value > best.value) best = next;
    }
    PyObject *id = PyLong_FromLongLong(best.id);
    if (id == nullptr || PyList_SetItem(ids, row, id) != 0) {
      Py_DECREF(ids);
      ids = nullptr;
    }
  }
  std::free(found);
  return ids;
}

PyMethodDef methods[] = {
    method("rms_norm", rms_norm, "x += added, where there is one; out = norm(x)."),
    method("turn_heads", turn_heads, "Normalise, where there are weights, and turn query and key heads in place."),
    method("gate", gate, "out = activation(gate) * up."),
    method("greedy", greedy, "For each row the lowest id of its largest logit; -1 where one is NaN or infinite."),
    {nullptr, nullptr, 0, nullptr}};

}  // namespace

PyMethodDef *rows_methods() { return methods; }
