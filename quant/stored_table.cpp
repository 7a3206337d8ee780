#include "quant/stored_table.h"

#include <algorithm>
#include <utility>

namespace lutsmith::quant {

StoredTable::StoredTable(const QuantizedMatrix& matrix)
    : bits(matrix.format.bits), kind(matrix.format.table) {
  for (const std::uint16_t value : matrix.table) values.push_back(from_bits(value, matrix.format.dtype));
}

double StoredTable::squared_error(std::span<const float> weights, std::span<const std::uint8_t> codes,
                                  double scale, std::span<const float> importance) const {
  double sum = 0;
  if (importance.empty()) {
    for_each_value(codes, [&](std::size_t i, double value) {
      const double difference = scale * value - weights[i];
      sum += difference * difference;
    });
    return sum;
  }
  for_each_value(codes, [&](std::size_t i, double value) {
    const double difference = scale * value - weights[i];
    sum += importance[i] * (difference * difference);
  });
  return sum;
}

double StoredTable::best_scale(std::span<const float> weights, std::span<const std::uint8_t> codes,
                               std::span<const float> importance) const {
  double product = 0;
  double square = 0;
  for_each_value(codes, [&](std::size_t i, double value) {
    const double counted = importance.empty() ? value : value * importance[i];
    product += counted * weights[i];
    square += counted * value;
  });
  return square > 0 ? product / square : 0;
}

bool StoredTable::symmetric() const {
  const std::size_t width = kind == TableKind::pair ? 2 : 1;
  std::vector<std::pair<float, float>> entries;
  std::vector<std::pair<float, float>> negatives;
  for (std::size_t i = 0; i < values.size(); i += width) {
    const float second = width == 2 ? values[i + 1] : 0;
    entries.emplace_back(values[i], second);
    negatives.emplace_back(-values[i], -second);
  }
  std::ranges::sort(entries);
  std::ranges::sort(negatives);
  return entries == negatives;
}

}  // namespace lutsmith::quant
