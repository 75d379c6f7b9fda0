#include "program.h"

#include <omp.h>

#include <cstdlib>
#include <cstring>

namespace quire {

namespace {

// An array that grows and is never initialised.
template <typename T>
struct Grown {
  T *items = nullptr;
  size_t count = 0, capacity = 0;

  bool append(const T *more, size_t number) {
    if (count + number > capacity) {
      const size_t wanted = 2 * capacity + number;
      T *const moved = static_cast<T *>(std::realloc(items, wanted * sizeof(T)));
      if (moved == nullptr) return false;
      items = moved;
      capacity = wanted;
    }
    if (number > 0) std::memcpy(items + count, more, number * sizeof(T));
    count += number;
    return true;
  }

  void trim() {
    T *const moved = static_cast<T *>(std::realloc(items, (count + 1) * sizeof(T)));
    if (moved == nullptr) return;
    items = moved;
    capacity = count + 1;
  }
};

struct Step {
  void (*run)(Arguments &);
  size_t first;  // of its values
};

struct Program {
  Grown<Step> steps;
  Grown<Value> values;

  bool append(const Kernel &kernel, const Value *numbers, Py_ssize_t count) {
    const Step step = {kernel.run, values.count};
    return values.append(numbers, size_t(count)) && steps.append(&step, 1);
  }

  // Stops at the first call that fails.
  void run(Failure &failure) const {
    for (size_t i = 0; i < steps.count && failure.fault == Fault::NONE; ++i) {
      Arguments arguments(values.items + steps.items[i].first, failure, false);
      steps.items[i].run(arguments);
    }
  }
};

const char *const CAPSULE = "quire._native.program";

// What the calling thread records.
thread_local Program *recording = nullptr;

void free_program(Program *program) {
  std::free(program->steps.items);
  std::free(program->values.items);
  std::free(program);
}

void free_capsule(PyObject *capsule) { free_program(static_cast<Program *>(PyCapsule_GetPointer(capsule, CAPSULE))); }

PyObject *record(PyObject *, PyObject *) {
  if (recording != nullptr) {
    PyErr_SetString(PyExc_RuntimeError, "This thread records a program already.");
    return nullptr;
  }
  void *const memory = std::malloc(sizeof(Program));
  if (memory == nullptr) return PyErr_NoMemory();
  recording = static_cast<Program *>(memory);
  *recording = Program{};
  Py_RETURN_NONE;
}

PyObject *recorded(PyObject *, PyObject *) {
  if (recording == nullptr) {
    PyErr_SetString(PyExc_RuntimeError, "This thread records no program.");
    return nullptr;
  }
  Program *const program = recording;
  recording = nullptr;
  program->steps.trim();
  program->values.trim();
  PyObject *capsule = PyCapsule_New(program, CAPSULE, free_capsule);
  if (capsule == nullptr) free_program(program);
  return capsule;
}

PyObject *run_program(PyObject *, PyObject *const *values, Py_ssize_t count) {
  if (count != 2) return PyErr_Format(PyExc_TypeError, "run_program takes a program and a number of threads");
  const Program *program = static_cast<const Program *>(PyCapsule_GetPointer(values[0], CAPSULE));
  const long num_threads = PyLong_AsLong(values[1]);
  if (program == nullptr || PyErr_Occurred() != nullptr) return nullptr;
  const int most = omp_get_max_threads();
  Failure failure;
  PyThreadState *const saved = PyEval_SaveThread();
  omp_set_num_threads(0 < num_threads && num_threads < most ? int(num_threads) : most);
  program->run(failure);
  omp_set_num_threads(most);
  PyEval_RestoreThread(saved);
  if (failure.fault != Fault::NONE) return raise(failure);
  Py_RETURN_NONE;
}

PyObject *program_size(PyObject *, PyObject *capsule) {
  const Program *program = static_cast<const Program *>(PyCapsule_GetPointer(capsule, CAPSULE));
  if (program == nullptr) return nullptr;
  const size_t bytes = sizeof(Program) + program->steps.capacity * sizeof(Step) + program->values.capacity * sizeof(Value);
  return Py_BuildValue("(nn)", Py_ssize_t(program->steps.count), Py_ssize_t(bytes));
}

PyMethodDef methods[] = {
    {"record", record, METH_NOARGS, "Note this thread's calls of kernels from now on."},
    {"recorded", recorded, METH_NOARGS, "The program of the calls since record(); no more are noted."},
    method("run_program", run_program, "run_program(program, threads): make its calls again; the first that fails raises."),
    {"program_size", program_size, METH_O, "How many calls a program has, and how many bytes it takes."},
    {nullptr, nullptr, 0, nullptr}};

}  // namespace

bool note(const Kernel &kernel, const Value *values, Py_ssize_t count) {
  if (recording == nullptr || recording->append(kernel, values, count)) return true;
  PyErr_NoMemory();
  return false;
}

}  // namespace quire

PyMethodDef *program_methods() { return quire::methods; }
