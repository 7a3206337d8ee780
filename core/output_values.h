#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "lutsmith/float16.h"
#include "lutsmith/kernel_spec.h"

// Y and R on the host: as floats, which hold elements of every output type exactly, and as the bytes of
// device memory.

namespace lutsmith::core {

/// Of a type of 16 bits.
inline DataType data_type_of(OutputType type) {
  return type == OutputType::f16 ? DataType::f16 : DataType::bf16;
}

/// The element nearest to a value, ties to even, of a type that is not `same`, as the others here.
inline float rounded_to(float value, OutputType type) {
  return type == OutputType::f32 ? value : from_bits(to_bits(value, data_type_of(type)), data_type_of(type));
}

/// Whole elements.
inline std::vector<float> values_of(std::span<const std::byte> bytes, OutputType type) {
  std::vector<float> values(bytes.size() / element_bytes(type));
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::byte* const from = bytes.data() + i * element_bytes(type);
    std::uint16_t bits = 0;
    if (type == OutputType::f32) {
      std::memcpy(&values[i], from, sizeof(float));
    } else {
      std::memcpy(&bits, from, sizeof(bits));
      values[i] = from_bits(bits, data_type_of(type));
    }
  }
  return values;
}

/// The inverse; rounds values that the type has not.
inline std::vector<std::byte> bytes_of(std::span<const float> values, OutputType type) {
  std::vector<std::byte> bytes(values.size() * element_bytes(type));
  for (std::size_t i = 0; i < values.size(); ++i) {
    std::byte* const to = bytes.data() + i * element_bytes(type);
    if (type == OutputType::f32) {
      std::memcpy(to, &values[i], sizeof(float));
    } else {
      const std::uint16_t bits = to_bits(values[i], data_type_of(type));
      std::memcpy(to, &bits, sizeof(bits));
    }
  }
  return bytes;
}

}  // namespace lutsmith::core
