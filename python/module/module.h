#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "lutsmith.h"

// lutsmith._core: what the Python package calls of lutsmith.h. Memory is handed over as addresses, since the
// module knows nothing of torch; the package keeps the tensors alive and checks their sizes. Only functions
// of Python's stable ABI are used, so that one binary serves every CPython from 3.10 on.

namespace lutsmith::python {

/// A reference that is given back.
class Owned {
 public:
  explicit Owned(PyObject* object = nullptr) : object_(object) {}
  Owned(Owned&& other) noexcept : object_(other.release()) {}
  Owned& operator=(Owned&&) = delete;
  Owned(const Owned&) = delete;
  Owned& operator=(const Owned&) = delete;
  ~Owned() { Py_XDECREF(object_); }

  [[nodiscard]] PyObject* get() const { return object_; }
  PyObject* release() {
    PyObject* const object = object_;
    object_ = nullptr;
    return object;
  }
  explicit operator bool() const { return object_ != nullptr; }

 private:
  PyObject* object_;
};

/// Calls `work`, which touches no Python object, while other Python threads run.
template <class Work>
auto without_gil(const Work& work) {
  PyThreadState* const state = PyEval_SaveThread();
  const auto result = work();
  PyEval_RestoreThread(state);
  return result;
}

/// Raises lutsmith.Error with the error of this thread's last call. Always nullptr.
PyObject* raise_last_error(lutsmith_status status);

/// What packed bytes mean, with the table: the object behind a format string.
struct Format {
  std::string dtype;
  std::string table_kind;
  std::vector<std::uint16_t> table;  ///< in dtype
  lutsmith_spec spec;                ///< points to the names above; its m is not set
  std::size_t packed_bytes;
};

/// Adds type Format to the module. Whether it did.
bool add_format(PyObject* module);
/// Of an instance of type Format.
const Format& format_of(PyObject* object);

/// Methods of Format on weights in host memory, and functions of the module.
extern PyMethodDef weight_methods[];
extern PyMethodDef functions[];

}  // namespace lutsmith::python
