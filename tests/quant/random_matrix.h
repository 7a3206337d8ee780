#pragma once

#include <array>
#include <cstdint>
#include <random>
#include <vector>

#include "lutsmith/quantization.h"

namespace lutsmith {

inline constexpr std::array kAllGroups = {32, 64, 128, 256, kPerChannel};

inline std::vector<float> random_weights(std::int64_t n, std::int64_t k, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, 0.02F);
  std::vector<float> weights(static_cast<std::size_t>(n * k));
  for (float& weight : weights) weight = normal(random);
  return weights;
}

/// Every code value is drawn; scales, table and offsets are random finite numbers of the type.
inline QuantizedMatrix random_matrix(const WeightFormat& format, unsigned seed = 1) {
  std::mt19937 random(seed);
  std::uniform_int_distribution<int> code(0, (1 << format.bits) - 1);
  std::uniform_real_distribution<float> number(-2, 2);
  QuantizedMatrix matrix{format, {}, {}, {}};
  matrix.codes.resize(static_cast<std::size_t>(format.n * format.k));
  matrix.scales.resize(static_cast<std::size_t>(format.n * groups_per_row(format.group, format.k)));
  matrix.table.resize(table_values(format));
  for (std::uint8_t& value : matrix.codes) value = static_cast<std::uint8_t>(code(random));
  for (std::uint16_t& value : matrix.scales) value = to_bits(number(random), format.dtype);
  for (std::uint16_t& value : matrix.table) value = to_bits(number(random), format.dtype);
  if (format.offsets) matrix.offsets.resize(matrix.scales.size());
  for (std::uint16_t& value : matrix.offsets) value = to_bits(number(random), format.dtype);
  return matrix;
}

}  // namespace lutsmith
