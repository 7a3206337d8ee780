#pragma once

#include <cstdint>

// The part of DLPack 1 that is used here: how a library gives its tensors to C without a call of Python.
// Names and order are those of its dlpack.h (https://dmlc.github.io/dlpack/latest/c_api.html), which is a
// stable ABI: a number of another major version tells what is read otherwise.

namespace lutsmith::python::dlpack {

constexpr std::uint32_t kMajorVersion = 1;
constexpr const char* kCapsuleName = "dlpack_exchange_api";

enum DeviceType : std::int32_t { kCpu = 1, kCuda = 2 };
enum DataTypeCode : std::uint8_t { kUnsigned = 1, kFloat = 2, kBfloat = 4 };

struct Device {
  DeviceType type;
  std::int32_t index;
};

struct DataType {
  std::uint8_t code;
  std::uint8_t bits;
  std::uint16_t lanes;
  bool operator==(const DataType&) const = default;
};

struct Tensor {
  void* data;
  Device device;
  std::int32_t dimensions;
  DataType dtype;
  std::int64_t* shape;
  std::int64_t* strides;  ///< in elements
  std::uint64_t byte_offset;
};

struct ExchangeInterface {
  std::uint32_t major_version;
  std::uint32_t minor_version;
  ExchangeInterface* older;
  // Functions that give tensors away or take them, which are not called here.
  void (*managed_tensor_allocator)();
  void (*managed_tensor_from_object)();
  void (*managed_tensor_to_object)();
  /// What it fills in is valid while the tensor lives. 0, or -1 with an exception set. May be nullptr.
  int (*tensor_from_object)(void* object, Tensor* tensor);
  int (*current_stream)(DeviceType type, std::int32_t index, void** stream);
};

}  // namespace lutsmith::python::dlpack
