// The extension module quire._native: the methods of all families, and the instructions in use.
#include <Python.h>
#include <omp.h>

#include <cstring>

#include "isa.h"

// One table a family, each ended by a row of zeros.
extern PyMethodDef *gemm_methods();
extern PyMethodDef *attention_methods();
extern PyMethodDef *rows_methods();
extern PyMethodDef *program_methods();
extern PyMethodDef *quantized_methods();
extern PyMethodDef *rounding_methods();

namespace {

PyObject *isa(PyObject *, PyObject *) { return PyUnicode_FromString(quire::isa_name(quire::current_isa())); }

PyObject *best_isa(PyObject *, PyObject *) { return PyUnicode_FromString(quire::isa_name(quire::best_isa())); }

PyObject *use_isa(PyObject *, PyObject *name) {
  const char *wanted = PyUnicode_AsUTF8AndSize(name, nullptr);
  if (wanted == nullptr) return nullptr;
  for (int level = 0; level < quire::NUM_ISAS; ++level) {
    const quire::Isa found = static_cast<quire::Isa>(level);
    if (std::strcmp(wanted, quire::isa_name(found)) != 0) continue;
    if (quire::use_isa(found)) Py_RETURN_NONE;
    return PyErr_Format(PyExc_ValueError, "This processor does not have %s; the best it has is %s.", wanted,
                        quire::isa_name(quire::best_isa()));
  }
  return PyErr_Format(PyExc_ValueError,
                      "%s is no set of instructions; these are: portable, avx2, avx512, avx512bf16, neon, neonbf16.",
                      wanted);
}

PyObject *num_threads(PyObject *, PyObject *) { return PyLong_FromLong(omp_get_max_threads()); }

PyMethodDef module_methods[] = {
    {"isa", isa, METH_NOARGS, "The instructions in use."},
    {"best_isa", best_isa, METH_NOARGS, "The best instructions that this processor has."},
    {"num_threads", num_threads, METH_NOARGS, "How many threads kernels may have: torch's number, if one runtime is shared."},
    {"use_isa", use_isa, METH_O, "Use the instructions of a name, at most the processor's best."},
    {nullptr, nullptr, 0, nullptr}};

PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "quire._native", "CPU kernels. quire.ops.native imports it.", -1, nullptr,
    nullptr,               nullptr,         nullptr,                                     nullptr};

}  // namespace

PyMODINIT_FUNC PyInit__native() {
  PyObject *module = PyModule_Create(&definition);
  if (module == nullptr) return nullptr;
  PyMethodDef *const tables[] = {module_methods,    gemm_methods(),      attention_methods(), rows_methods(),
                                 program_methods(), quantized_methods(), rounding_methods()};
  for (PyMethodDef *table : tables) {
    if (PyModule_AddFunctions(module, table) != 0) {
      Py_DECREF(module);
      return nullptr;
    }
  }
  return module;
}
