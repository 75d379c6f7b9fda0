#include "arguments.h"

#include <cstdarg>
#include <cstdio>
#include <cstring>

#include "program.h"

namespace quire {

void Arguments::fail(Fault fault, const char *format, ...) {
  failure_.fault = fault;
  va_list rest;
  va_start(rest, format);
  std::vsnprintf(failure_.words, sizeof failure_.words, format, rest);
  va_end(rest);
}

bool read_values(const char *name, const char *kinds, PyObject *const *from, Py_ssize_t count, Value *to) {
  const Py_ssize_t expected = Py_ssize_t(std::strlen(kinds));
  if (count != expected) {
    PyErr_Format(PyExc_TypeError, "%s takes %zd arguments; %zd came", name, expected, count);
    return false;
  }
  for (Py_ssize_t i = 0; i < count; ++i) {
    if (kinds[i] == 'i')
      to[i].whole = PyLong_AsLongLong(from[i]);
    else if (kinds[i] == 'r')
      to[i].real = PyFloat_AsDouble(from[i]);
    else
      to[i].whole = 0;
  }
  return PyErr_Occurred() == nullptr;
}

PyObject *raise(const Failure &failure) {
  if (failure.fault == Fault::MEMORY) return PyErr_NoMemory();
  PyErr_SetString(failure.fault == Fault::INDEX ? PyExc_IndexError : PyExc_ValueError, failure.words);
  return nullptr;
}

PyObject *call(const Kernel &kernel, PyObject *const *values, Py_ssize_t count) {
  Value numbers[MAX_VALUES];
  if (!read_values(kernel.name, kernel.kinds, values, count, numbers)) return nullptr;
  Failure failure;
  Arguments arguments(numbers, failure, true);
  kernel.run(arguments);
  if (failure.fault != Fault::NONE) return raise(failure);
  if (!note(kernel, numbers, count)) return nullptr;
  Py_RETURN_NONE;
}

}  // namespace quire
