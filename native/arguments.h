// Arguments of a native call: whole numbers, addresses and real numbers, eight bytes each.
//
// They are read from Python before the call, which touches no Python object: so it can run without the lock, and be
// repeated from the same numbers. Shapes and types were checked in Python, where the tensors are known
// (quire/ops/*_native.py); here only that each argument is what it claims to be.
#pragma once

#include <Python.h>

#include <cstdint>

namespace quire {

union Value {
  int64_t whole;
  double real;
};

constexpr Py_ssize_t MAX_VALUES = 32;

// The kind of exception that a call which failed becomes.
enum class Fault : int { NONE, VALUE, INDEX, MEMORY };

struct Failure {
  Fault fault = Fault::NONE;
  char words[256];
};

class Arguments {
 public:
  // `holds_lock`: the calling thread holds Python's lock.
  Arguments(const Value *values, Failure &failure, bool holds_lock)
      : values_(values), failure_(failure), holds_lock_(holds_lock) {}

  int64_t integer() { return (values_++)->whole; }
  double real() { return (values_++)->real; }
  template <typename T>
  T *pointer() {
    return reinterpret_cast<T *>(static_cast<intptr_t>((values_++)->whole));
  }

  // What the call reports instead of a result.
  __attribute__((format(printf, 3, 4))) void fail(Fault fault, const char *format, ...);
  void fail_for_memory() { failure_.fault = Fault::MEMORY; }

  bool holds_lock() const { return holds_lock_; }

 private:
  const Value *values_;
  Failure &failure_;
  const bool holds_lock_;
};

// Lets other Python threads run while a call computes, if it is long enough (`work` in multiply-adds or bytes) to repay
// handing over the lock.
class WithoutLock {
 public:
  explicit WithoutLock(double work, bool holds_lock = true)
      : saved_(holds_lock && work > 1e6 ? PyEval_SaveThread() : nullptr) {}
  WithoutLock(const Arguments &arguments, double work) : WithoutLock(work, arguments.holds_lock()) {}
  ~WithoutLock() {
    if (saved_ != nullptr) PyEval_RestoreThread(saved_);
  }
  WithoutLock(const WithoutLock &) = delete;
  WithoutLock &operator=(const WithoutLock &) = delete;

 private:
  PyThreadState *saved_;
};

// A call whose arguments are numbers alone and whose results lie in memory.
struct Kernel {
  const char *name;
  const char *kinds;  // a letter for each argument: i a whole number or an address, r a real number, o any object
  void (*run)(Arguments &);
};

// Reads arguments of these kinds; objects are left alone. False, with the exception set, where they are others.
bool read_values(const char *name, const char *kinds, PyObject *const *from, Py_ssize_t count, Value *to);

// The exception of a failure.
PyObject *raise(const Failure &failure);

// Runs a kernel; None, or nullptr with the exception set.
PyObject *call(const Kernel &kernel, PyObject *const *values, Py_ssize_t count);

using FastFunction = PyObject *(*)(PyObject *, PyObject *const *, Py_ssize_t);

inline PyMethodDef method(const char *name, FastFunction function, const char *doc) {
  return {name, reinterpret_cast<PyCFunction>(reinterpret_cast<void *>(function)), METH_FASTCALL, doc};
}

template <const Kernel &KERNEL>
PyObject *call_from_python(PyObject *, PyObject *const *values, Py_ssize_t count) {
  return call(KERNEL, values, count);
}

template <const Kernel &KERNEL>
PyMethodDef method(const char *doc) {
  return method(KERNEL.name, call_from_python<KERNEL>, doc);
}

}  // namespace quire
