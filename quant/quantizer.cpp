#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "quant/nearest_code.h"
#include "quant/validation.h"

namespace lutsmith {
namespace {

/// max |w|, or a value that is not finite where some weight is not.
float largest_magnitude(std::span<const float> weights) {
  float largest = 0;
  for (const float weight : weights) {
    const float magnitude = std::fabs(weight);
    if (!(magnitude <= largest)) largest = magnitude;  // a NaN is taken, and then kept:
    if (std::isnan(largest)) break;
  }
  return largest;
}

std::unexpected<Error> refuse_weight(std::span<const float> row, std::int64_t row_index) {
  const auto bad = std::ranges::find_if(row, [](float weight) { return !std::isfinite(weight); });
  return quant::refuse(fmt::format("weights: {} at row {}, column {}; every weight must be finite", *bad,
                                   row_index, bad - row.begin()));
}

/// The scale of a group, rounded to the type it will be stored in.
Result<std::uint16_t> group_scale(float largest_weight, float largest_entry, DataType dtype) {
  const double exact = double{largest_weight} / largest_entry;
  const std::uint16_t rounded = to_bits(static_cast<float>(exact), dtype);
  if (std::isfinite(from_bits(rounded, dtype))) return rounded;
  return quant::refuse(fmt::format(
      "weights: the scale {:.6g} (max |w| {:.6g} / max |table| {:.6g}) is beyond the range of {}; {}", exact,
      largest_weight, largest_entry, to_string(dtype),
      dtype == DataType::fp16 ? "use dtype bf16, or divide the weights by a constant first"
                              : "divide the weights by a constant first"));
}

/// Fills scales and codes of a matrix whose other fields are set.
template <class Nearest>
Result<void> quantize_rows(std::span<const float> weights, const Nearest& nearest, float largest_entry,
                           QuantizedMatrix& matrix) {
  const std::int64_t k = matrix.format.k;
  const std::int64_t group = quant::group_columns(matrix.format);
  const std::span<std::uint8_t> codes = matrix.codes;
  std::size_t next_scale = 0;
  for (std::int64_t row = 0; row < matrix.format.n; ++row) {
    for (std::int64_t column = 0; column < k; column += group) {
      const auto first = static_cast<std::size_t>(row * k + column);
      const auto count = static_cast<std::size_t>(std::min(group, k - column));
      const std::span<const float> members = weights.subspan(first, count);
      const float largest = largest_magnitude(members);
      if (!std::isfinite(largest)) {
        return refuse_weight(weights.subspan(static_cast<std::size_t>(row * k), static_cast<std::size_t>(k)),
                             row);
      }
      const Result<std::uint16_t> scale = group_scale(largest, largest_entry, matrix.dtype);
      if (!scale) {
        return quant::refuse(fmt::format("{} (row {}, columns {} to {})", scale.error().message, row, column,
                                         column + static_cast<std::int64_t>(count) - 1));
      }
      matrix.scales[next_scale++] = *scale;
      // A scale of 0 (weights all zero, or too small for the type) makes every code right: the one
      // nearest to zero is taken.
      const double divisor = from_bits(*scale, matrix.dtype);
      nearest.encode(members, divisor == 0 ? 0 : 1 / divisor, codes.subspan(first, count));
    }
  }
  return {};
}

Result<QuantizedMatrix> empty_matrix(std::int64_t n, std::int64_t k, const Table& table, int group,
                                     DataType dtype) {
  QuantizedMatrix matrix{{table.bits, group, n, k}, dtype, table.kind, {}, {}, {}};
  auto codes = quant::allocate<std::uint8_t>(quant::weight_count(matrix.format), "codes");
  if (!codes) return std::unexpected(codes.error());
  auto scales = quant::allocate<std::uint16_t>(quant::scale_count(matrix.format), "scales");
  if (!scales) return std::unexpected(scales.error());
  matrix.codes = std::move(*codes);
  matrix.scales = std::move(*scales);
  for (const float value : table.values) matrix.table.push_back(to_bits(value, dtype));
  return matrix;
}

}  // namespace

Result<QuantizedMatrix> quantize(std::span<const float> weights, std::int64_t n, std::int64_t k,
                                 const Table& table, int group, DataType dtype) {
  const PackedFormat format{table.bits, group, n, k};
  if (auto checked = quant::validate(format); !checked) return std::unexpected(checked.error());
  if (auto checked = quant::validate_table(table.bits, table.kind, table.values, dtype); !checked) {
    return std::unexpected(checked.error());
  }
  if (weights.size() != quant::weight_count(format)) {
    return quant::refuse(fmt::format("weights: {} values given; allowed: {} (n {} x k {})", weights.size(),
                                     quant::weight_count(format), n, k));
  }
  Result<QuantizedMatrix> matrix = empty_matrix(n, k, table, group, dtype);
  if (!matrix) return matrix;

  std::vector<float> entries;  // what the codes will mean: the values as rounded to the type
  for (const std::uint16_t bits : matrix->table) entries.push_back(from_bits(bits, dtype));
  const float largest_entry = largest_magnitude(entries);
  if (largest_entry == 0) {
    return quant::refuse(
        fmt::format("table: all values are 0 in {}; at least one must differ", to_string(dtype)));
  }
  const Result<void> done =
      table.kind == TableKind::scalar
          ? quantize_rows(weights, quant::NearestValue(entries, table.bits), largest_entry, *matrix)
          : quantize_rows(weights, quant::NearestPair(entries, table.bits), largest_entry, *matrix);
  if (!done) return std::unexpected(done.error());
  return matrix;
}

}  // namespace lutsmith
