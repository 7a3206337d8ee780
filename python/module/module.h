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

/// What else than the format a kernel is for: bits of a number, which Python has too (gpu.py). Of a switch
/// alone it is the switch.
enum Variant : int {
  batch_invariant = 1,
  with_residual = 2,
  with_bias = 4,
  gated_silu = 8,
  gated_gelu_tanh = 16,
};
constexpr int kAllVariants = 31;

/// Sets what a variant says.
inline void set_variant(lutsmith_spec& spec, int variant) {
  spec.batch_invariant = (variant & batch_invariant) != 0 ? 1 : 0;
  spec.residual = (variant & with_residual) != 0 ? 1 : 0;
  spec.bias = (variant & with_bias) != 0 ? 1 : 0;
  if ((variant & gated_silu) != 0) spec.gated = "silu";
  if ((variant & gated_gelu_tanh) != 0) spec.gated = "gelu_tanh";
}

/// A kernel that is loaded.
struct DeviceKernel {
  int device = 0;
  std::int64_t bucket = 0;  ///< lutsmith_token_bucket of the tokens it is for
  int variant = 0;
  lutsmith_kernel* kernel = nullptr;
};

/// What packed bytes mean, with the table: the object behind a format string.
struct Format {
  std::string dtype;
  std::string table_kind;
  /// In dtype; of segments one table behind another, and empty where rows have tables among the packed bytes.
  std::vector<std::uint16_t> table;
  std::vector<std::int64_t> segments;  ///< rows of each; none where all rows have one table
  lutsmith_spec spec;                  ///< points to the names above; m and the variant are not set
  std::size_t packed_bytes;
  std::vector<DeviceKernel> kernels;  ///< that this process has loaded; changed by whoever holds the GIL

  /// As the library takes it: none is a null pointer.
  [[nodiscard]] const std::uint16_t* table_data() const { return table.empty() ? nullptr : table.data(); }
};

/// A product to be enqueued: addresses on the GPU, and strides in elements.
struct Launch {
  int device = 0;
  CUstream_st* stream = nullptr;
  const void* x = nullptr;
  const void* weights = nullptr;
  void* y = nullptr;
  std::int64_t tokens = 0;
  std::int64_t x_stride = 0;
  std::int64_t y_stride = 0;
  int variant = 0;
  const void* residual = nullptr;
  std::int64_t residual_stride = 0;
  const void* bias = nullptr;
};

/// What a launch needs that is there already.
struct Prepared {
  const lutsmith_kernel* kernel = nullptr;
  lutsmith_workspace* workspace = nullptr;
};

enum LaunchOutcome { done, kernel_missing, workspace_missing, failed };

/// The kernel and the workspace that it takes. failed: an error was raised.
LaunchOutcome find_prepared(const Format& format, const Launch& launch, Prepared& found);
/// Whether it was enqueued; else an error was raised.
bool enqueue(const Format& format, const Prepared& prepared, const Launch& launch);

/// Adds type Format to the module. Whether it did.
bool add_format(PyObject* module);
/// Of an instance of type Format.
Format& format_of(PyObject* object);

// Methods of Format on weights in host memory, and of the module.
PyObject* quantize(PyObject* format, PyObject* arguments);
PyObject* learn_table(PyObject* format, PyObject* arguments);
PyObject* dequantize(PyObject* format, PyObject* arguments);
PyObject* pack(PyObject* format, PyObject* arguments);
PyObject* unpack(PyObject* format, PyObject* arguments);
PyObject* table(PyObject* module, PyObject* arguments);

// Products of tensors, which are read by DLPack's interface in C; of Format, and of the module.
PyObject* multiply(PyObject* format, PyObject* const* arguments, Py_ssize_t count);
PyObject* exchange_tensors(PyObject* module, PyObject* arguments);

/// All methods of Format; functions of the module that concern GPUs.
extern PyMethodDef format_methods[];
extern PyMethodDef gpu_functions[];

/// None, or raises.
PyObject* none_or_error(lutsmith_status status);

/// What data_ptr() gave.
template <class T>
T* pointer(unsigned long long address) {
  return reinterpret_cast<T*>(address);  // NOLINT(performance-no-int-to-ptr): Python's addresses are ints
}

}  // namespace lutsmith::python
