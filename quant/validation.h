#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lutsmith/error.h"
#include "lutsmith/quantization.h"

namespace lutsmith::quant {

/// The checks below name the field, the value given and what is allowed.

/// Of a table: length, and that every value is finite as a float and in `dtype`.
Result<void> validate_table(int bits, TableKind kind, std::span<const float> values, DataType dtype);
/// Of an importance of input channels, which may be empty: k values, none negative, all finite.
Result<void> validate_importance(std::span<const float> importance, std::int64_t k);
/// Sizes of codes, scales, offsets and table, codes below 2^bits, all others finite.
Result<void> validate(const QuantizedMatrix& matrix);

/// Bits, group, offsets and tables of rows, n and k, for messages about packed bytes.
std::string describe(const WeightFormat& format);

/// Of a validated format.
inline std::size_t weight_count(const WeightFormat& format) {
  return static_cast<std::size_t>(format.n) * static_cast<std::size_t>(format.k);
}
inline std::size_t scale_count(const WeightFormat& format) {
  return static_cast<std::size_t>(format.n) *
         static_cast<std::size_t>(groups_per_row(format.group, format.k));
}
/// Weights along k that share a scale.
inline std::int64_t group_columns(const WeightFormat& format) {
  return format.group == kPerChannel ? format.k : format.group;
}

}  // namespace lutsmith::quant
