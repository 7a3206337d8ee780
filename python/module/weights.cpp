#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "module.h"

namespace lutsmith::python {
namespace {

constexpr int kMostBits = 8;

PyObject* list_of(std::span<const float> values) {
  Owned list(PyList_New(static_cast<Py_ssize_t>(values.size())));
  for (std::size_t i = 0; list && i < values.size(); ++i) {
    PyObject* const value = PyFloat_FromDouble(double{values[i]});
    if (value == nullptr || PyList_SetItem(list.get(), static_cast<Py_ssize_t>(i), value) != 0)
      return nullptr;
  }
  return list.release();
}

}  // namespace

PyObject* table(PyObject* /*module*/, PyObject* arguments) {
  const char* method = nullptr;
  int bits = 0;
  if (PyArg_ParseTuple(arguments, "si:table", &method, &bits) == 0) return nullptr;
  std::array<float, 1U << kMostBits> values{};
  const std::size_t length = bits >= 1 && bits <= kMostBits ? std::size_t{1} << bits : 1;
  const lutsmith_status status = lutsmith_table(method, bits, values.data(), length);
  return status == LUTSMITH_OK ? list_of(std::span(values).first(length)) : raise_last_error(status);
}

PyObject* quantize(PyObject* self, PyObject* arguments) {
  unsigned long long weights = 0;
  unsigned long long packed = 0;
  long long stride = 0;
  const char* type = nullptr;
  const char* values = nullptr;
  Py_ssize_t value_bytes = 0;
  unsigned threads = 0;
  const char* scales = nullptr;
  unsigned long long importance = 0;
  if (PyArg_ParseTuple(arguments, "KsLy#KIsK:quantize", &weights, &type, &stride, &values, &value_bytes,
                       &packed, &threads, &scales, &importance) == 0) {
    return nullptr;
  }
  const Format& format = format_of(self);
  lutsmith_quantization quantization = LUTSMITH_QUANTIZATION_INIT;
  quantization.format = &format.spec;
  quantization.weights = pointer<const void>(weights);
  quantization.weights_type = type;
  quantization.weights_stride = stride;
  quantization.table = reinterpret_cast<const float*>(values);
  quantization.table_length = static_cast<std::size_t>(value_bytes) / sizeof(float);
  quantization.packed = pointer<void>(packed);
  quantization.packed_bytes = format.packed_bytes;
  quantization.threads = threads;
  quantization.scales = scales;
  quantization.importance = pointer<const float>(importance);
  double weight_error = 0;
  const lutsmith_status status = without_gil([&] { return lutsmith_quantize(&quantization, &weight_error); });
  return status == LUTSMITH_OK ? PyFloat_FromDouble(weight_error) : raise_last_error(status);
}

PyObject* learn_table(PyObject* self, PyObject* arguments) {
  unsigned long long weights = 0;
  long long stride = 0;
  const char* type = nullptr;
  unsigned threads = 0;
  unsigned long long importance = 0;
  if (PyArg_ParseTuple(arguments, "KsLIK:learn_table", &weights, &type, &stride, &threads, &importance) ==
      0) {
    return nullptr;
  }
  const Format& format = format_of(self);
  lutsmith_quantization quantization = LUTSMITH_QUANTIZATION_INIT;
  quantization.format = &format.spec;
  quantization.weights = pointer<const void>(weights);
  quantization.weights_type = type;
  quantization.weights_stride = stride;
  quantization.importance = pointer<const float>(importance);
  quantization.threads = threads;
  // Of a format whose rows have tables one row's is learned.
  std::vector<float> values(std::size_t{1} << format.spec.bits);
  const lutsmith_status status =
      without_gil([&] { return lutsmith_learn_table(&quantization, values.data(), values.size()); });
  return status == LUTSMITH_OK ? list_of(values) : raise_last_error(status);
}

PyObject* dequantize(PyObject* self, PyObject* arguments) {
  unsigned long long packed = 0;
  unsigned long long weights = 0;
  long long stride = 0;
  long long first_row = 0;
  long long rows = 0;
  const char* type = nullptr;
  unsigned threads = 0;
  if (PyArg_ParseTuple(arguments, "KLLKsLI:dequantize", &packed, &first_row, &rows, &weights, &type, &stride,
                       &threads) == 0) {
    return nullptr;
  }
  const Format& format = format_of(self);
  lutsmith_dequantization dequantization = LUTSMITH_DEQUANTIZATION_INIT;
  dequantization.format = &format.spec;
  dequantization.packed = pointer<const void>(packed);
  dequantization.packed_bytes = format.packed_bytes;
  dequantization.table = format.table_data();
  dequantization.table_length = format.table.size();
  dequantization.first_row = first_row;
  dequantization.rows = rows;
  dequantization.weights = pointer<void>(weights);
  dequantization.weights_type = type;
  dequantization.weights_stride = stride;
  dequantization.threads = threads;
  dequantization.segments = format.segments.data();
  dequantization.segment_count = format.segments.size();
  return none_or_error(without_gil([&] { return lutsmith_dequantize(&dequantization); }));
}

PyObject* pack(PyObject* self, PyObject* arguments) {
  unsigned long long codes = 0;
  unsigned long long scales = 0;
  unsigned long long offsets = 0;
  unsigned long long tables = 0;
  unsigned long long packed = 0;
  if (PyArg_ParseTuple(arguments, "KKKKK:pack", &codes, &scales, &offsets, &tables, &packed) == 0) {
    return nullptr;
  }
  const Format& format = format_of(self);
  return none_or_error(without_gil([&] {
    return lutsmith_pack_tables(&format.spec, pointer<const std::uint8_t>(codes),
                                pointer<const std::uint16_t>(scales), pointer<const std::uint16_t>(offsets),
                                pointer<const std::uint16_t>(tables), pointer<void>(packed),
                                format.packed_bytes);
  }));
}

PyObject* unpack(PyObject* self, PyObject* arguments) {
  unsigned long long packed = 0;
  unsigned long long codes = 0;
  unsigned long long scales = 0;
  unsigned long long offsets = 0;
  unsigned long long tables = 0;
  if (PyArg_ParseTuple(arguments, "KKKKK:unpack", &packed, &codes, &scales, &offsets, &tables) == 0) {
    return nullptr;
  }
  const Format& format = format_of(self);
  return none_or_error(without_gil([&] {
    return lutsmith_unpack_tables(&format.spec, pointer<const void>(packed), format.packed_bytes,
                                  pointer<std::uint8_t>(codes), pointer<std::uint16_t>(scales),
                                  pointer<std::uint16_t>(offsets), pointer<std::uint16_t>(tables));
  }));
}

}  // namespace lutsmith::python
