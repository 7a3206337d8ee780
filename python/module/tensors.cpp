#include <algorithm>
#include <array>
#include <string_view>

#include "dlpack.h"
#include "module.h"

// A product of tensors in one call of C. Reading a tensor by DLPack's interface takes some ten nanoseconds,
// one of its attributes by Python some fifty, and a product needs a dozen of them.

namespace lutsmith::python {
namespace {

constexpr std::uintptr_t kAlignment = 16;  // bytes, of the first row of x
constexpr int kMostDimensions = 8;         // of x; more are rare, and take the other path

const dlpack::ExchangeInterface* interface = nullptr;  // of torch; nullptr where it has none
dlpack::DeviceType device_type = dlpack::kCuda;

bool read(PyObject* object, dlpack::Tensor& tensor) {
  if (interface->tensor_from_object(object, &tensor) != 0) {
    PyErr_Clear();  // the other path says what is wrong with it
    return false;
  }
  tensor.data = static_cast<char*>(tensor.data) + tensor.byte_offset;
  return true;
}

bool contiguous(const dlpack::Tensor& tensor) {
  std::int64_t expected = 1;
  for (int i = tensor.dimensions - 1; i >= 0; --i) {
    if (tensor.shape[i] != 1 && tensor.strides[i] != expected) return false;
    expected *= tensor.shape[i];
  }
  return true;
}

std::int64_t rows(const dlpack::Tensor& tensor) {
  std::int64_t count = 1;
  for (int i = 0; i < tensor.dimensions - 1; ++i) count *= tensor.shape[i];
  return count;
}

bool same_place(const dlpack::Tensor& one, const dlpack::Tensor& other) {
  return one.device.type == other.device.type && one.device.index == other.device.index;
}

dlpack::DataType type_of(const Format& format) {
  return {.code = std::string_view(format.dtype) == "bf16" ? dlpack::kBfloat : dlpack::kFloat,
          .bits = 16,
          .lanes = 1};
}

bool are_rows(const dlpack::Tensor& x, const Format& format) {
  return x.device.type == device_type && x.dtype == type_of(format) && x.dimensions > 0 &&
         x.dimensions <= kMostDimensions && x.shape[x.dimensions - 1] == format.spec.k && contiguous(x) &&
         reinterpret_cast<std::uintptr_t>(x.data) % kAlignment == 0;
}

/// b [n] beside x.
bool is_bias(const dlpack::Tensor& bias, const dlpack::Tensor& x, const Format& format) {
  return same_place(bias, x) && bias.dtype == x.dtype && bias.dimensions == 1 &&
         bias.shape[0] == format.spec.n && contiguous(bias);
}

/// R [..., n] for x [..., k].
bool is_residual(const dlpack::Tensor& residual, const dlpack::Tensor& x, const Format& format) {
  const int last = x.dimensions - 1;
  return same_place(residual, x) && residual.dtype == x.dtype && residual.dimensions == x.dimensions &&
         std::equal(x.shape, x.shape + last, residual.shape) && residual.shape[last] == format.spec.n &&
         contiguous(residual);
}

bool are_weights(const dlpack::Tensor& weights, const Format& format) {
  constexpr dlpack::DataType kBytes{.code = dlpack::kUnsigned, .bits = 8, .lanes = 1};
  return weights.dtype == kBytes && weights.dimensions == 1 && contiguous(weights) &&
         weights.shape[0] == static_cast<std::int64_t>(format.packed_bytes);
}

PyObject* tuple_of(const std::int64_t* values, int count) {
  Owned tuple(PyTuple_New(count));
  if (!tuple) return nullptr;
  for (int i = 0; i < count; ++i) {
    PyObject* const value = PyLong_FromLongLong(values[i]);
    if (value == nullptr || PyTuple_SetItem(tuple.get(), i, value) != 0) return nullptr;
  }
  return tuple.release();
}

/// empty([..., n], its strides, dtype) for x [..., k].
PyObject* make_output(const dlpack::Tensor& x, std::int64_t n, PyObject* empty, PyObject* dtype) {
  std::array<std::int64_t, kMostDimensions> shape{};
  std::array<std::int64_t, kMostDimensions> strides{};
  const auto last = static_cast<std::size_t>(x.dimensions) - 1;
  std::copy_n(x.shape, last, shape.begin());
  shape[last] = n;
  strides[last] = 1;
  for (std::size_t i = last; i > 0; --i) strides[i - 1] = strides[i] * shape[i];
  const Owned shape_tuple(tuple_of(shape.data(), x.dimensions));
  const Owned strides_tuple(tuple_of(strides.data(), x.dimensions));
  if (!shape_tuple || !strides_tuple) return nullptr;
  return PyObject_CallFunctionObjArgs(empty, shape_tuple.get(), strides_tuple.get(), dtype, nullptr);
}

PyObject* more_to_do() {
  Py_INCREF(Py_None);
  return Py_None;
}

}  // namespace

PyObject* exchange_tensors(PyObject* /*module*/, PyObject* arguments) {
  PyObject* capsule = nullptr;
  int type = 0;
  if (PyArg_ParseTuple(arguments, "Oi:exchange_tensors", &capsule, &type) == 0) return nullptr;
  const auto* given =
      static_cast<const dlpack::ExchangeInterface*>(PyCapsule_GetPointer(capsule, dlpack::kCapsuleName));
  if (given == nullptr) return nullptr;
  while (given != nullptr && given->major_version != dlpack::kMajorVersion) given = given->older;
  if (given != nullptr && given->tensor_from_object == nullptr) given = nullptr;
  interface = given;
  device_type = static_cast<dlpack::DeviceType>(type);
  return PyBool_FromLong(interface != nullptr ? 1 : 0);
}

PyObject* multiply(PyObject* self, PyObject* const* arguments, Py_ssize_t count) {
  constexpr Py_ssize_t kFewest = 5;
  constexpr Py_ssize_t kMost = 7;
  if (count != kFewest && count != kMost) {
    PyErr_Format(PyExc_TypeError, "multiply takes %zd or %zd arguments, %zd given", kFewest, kMost, count);
    return nullptr;
  }
  const Format& format = format_of(self);
  const auto variant = static_cast<int>(PyLong_AsLong(arguments[4]));
  if (PyErr_Occurred() != nullptr) return nullptr;
  dlpack::Tensor x{};
  dlpack::Tensor weights{};
  if (interface == nullptr || !read(arguments[0], x) || !read(arguments[1], weights) ||
      !are_rows(x, format) || !are_weights(weights, format) || !same_place(x, weights)) {
    return more_to_do();
  }
  Launch launch{.device = x.device.index,
                .x = x.data,
                .weights = weights.data,
                .tokens = rows(x),
                .x_stride = format.spec.k,
                .variant = variant};
  dlpack::Tensor added{};
  if (count == kMost && arguments[5] != Py_None) {
    if (!read(arguments[5], added) || !is_bias(added, x, format)) return more_to_do();
    launch.bias = added.data;
  }
  if (count == kMost && arguments[6] != Py_None) {
    if (!read(arguments[6], added) || !is_residual(added, x, format)) return more_to_do();
    launch.residual = added.data;
  }
  if (launch.tokens == 0) return more_to_do();
  void* stream = nullptr;
  if (interface->current_stream(x.device.type, launch.device, &stream) != 0) return nullptr;
  launch.stream = static_cast<CUstream_st*>(stream);
  Prepared prepared;
  const LaunchOutcome outcome = find_prepared(format, launch, prepared);
  if (outcome == failed) return nullptr;
  if (outcome != done) return more_to_do();

  const bool gated = (variant & (gated_silu | gated_gelu_tanh)) != 0;
  Owned y(make_output(x, gated ? format.spec.n / 2 : format.spec.n, arguments[2], arguments[3]));
  if (!y) return nullptr;
  dlpack::Tensor output{};
  // It is made on the current device, which may be another one.
  if (!read(y.get(), output) || !same_place(x, output)) return more_to_do();
  launch.y = output.data;
  return enqueue(format, prepared, launch) ? y.release() : nullptr;
}

}  // namespace lutsmith::python
