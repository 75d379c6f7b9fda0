// Arguments of a METH_FASTCALL function: integers, addresses as integers, real numbers.
//
// Shapes and types were checked in Python, where the tensors are known (quire/ops/*_native.py); here only that each
// argument is what it claims to be.
#pragma once

#include <Python.h>

#include <cstdint>

namespace quire {

class Arguments {
 public:
  Arguments(PyObject *const *values, Py_ssize_t count) : values_(values), count_(count) {}

  // Sets a TypeError and returns false when another number of arguments came.
  bool expect(Py_ssize_t count, const char *function) {
    if (count_ == count) return true;
    PyErr_Format(PyExc_TypeError, "%s takes %zd arguments; %zd came", function, count, count_);
    return false;
  }

  int64_t integer() { return PyLong_AsLongLong(values_[next_++]); }
  double real() { return PyFloat_AsDouble(values_[next_++]); }
  template <typename T>
  T *pointer() {
    return static_cast<T *>(PyLong_AsVoidPtr(values_[next_++]));
  }

  // True when an argument was not what it was read as; the exception is set.
  bool failed() const { return PyErr_Occurred() != nullptr; }

 private:
  PyObject *const *values_;
  Py_ssize_t count_;
  Py_ssize_t next_ = 0;
};

// Lets other Python threads run while a call computes, if it is long enough (`work` in multiply-adds or bytes) to repay
// handing over the lock.
class WithoutLock {
 public:
  explicit WithoutLock(double work) : saved_(work > 1e6 ? PyEval_SaveThread() : nullptr) {}
  ~WithoutLock() {
    if (saved_ != nullptr) PyEval_RestoreThread(saved_);
  }
  WithoutLock(const WithoutLock &) = delete;
  WithoutLock &operator=(const WithoutLock &) = delete;

 private:
  PyThreadState *saved_;
};

using FastFunction = PyObject *(*)(PyObject *, PyObject *const *, Py_ssize_t);

inline PyMethodDef method(const char *name, FastFunction function, const char *doc) {
  return {name, reinterpret_cast<PyCFunction>(reinterpret_cast<void *>(function)), METH_FASTCALL, doc};
}

}  // namespace quire
