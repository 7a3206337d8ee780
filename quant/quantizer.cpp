#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>

#include "core/allocate.h"
#include "core/result.h"
#include "quant/nearest_code.h"
#include "quant/scale_search.h"
#include "quant/stored_table.h"
#include "quant/validation.h"

namespace lutsmith {
namespace {

/// How far numbers reach from zero: magnitudes of the most positive and the most negative.
struct Reach {
  float up = 0;
  float down = 0;
  bool finite = true;

  [[nodiscard]] float largest() const { return std::max(up, down); }
};

Reach reach_of(std::span<const float> numbers) {
  Reach reach;
  for (const float number : numbers) {
    reach.up = std::max(reach.up, number);
    reach.down = std::max(reach.down, -number);
    reach.finite &= std::fabs(number) <= std::numeric_limits<float>::max();  // not so: infinities, NaN
  }
  return reach;
}

/// The scale that lays the largest weight of a group on the largest entry of the table, see quantize().
double exact_scale(const Reach& weights, const Reach& table) {
  const double magnitude = double{weights.largest()} / table.largest();
  if (weights.up == weights.down || table.up == table.down) return magnitude;
  return (weights.up > weights.down) == (table.up > table.down) ? magnitude : -magnitude;
}

double root_mean_square(std::span<const float> numbers) {
  double sum = 0;
  for (const float number : numbers) sum += double{number} * number;
  return std::sqrt(sum / static_cast<double>(numbers.size()));
}

std::unexpected<Error> refuse_weight(std::span<const float> row, std::int64_t row_index) {
  const auto bad = std::ranges::find_if(row, [](float weight) { return !std::isfinite(weight); });
  return refuse(fmt::format("weights: {} at row {}, column {}; every weight must be finite", *bad, row_index,
                            bad - row.begin()));
}

float smallest_normal(DataType dtype) { return dtype == DataType::f16 ? 0x1p-14F : 0x1p-126F; }

/// Fills scales and codes of a matrix whose other fields are set.
template <class Nearest>
class Quantizer {
 public:
  Quantizer(std::span<const float> weights, const quant::StoredTable& table,
            const QuantizationOptions& options, QuantizedMatrix& matrix, QuantizationLoss& loss)
      : weights_(weights),
        table_(table),
        nearest_(table.values, table.bits),
        search_(table_, nearest_, matrix.format.dtype, options.importance),
        choice_(options.scales),
        reach_(reach_of(table.values)),
        matrix_(matrix),
        loss_(loss) {}
  Quantizer(const Quantizer&) = delete;  // the search points to the look-up beside it
  Quantizer& operator=(const Quantizer&) = delete;

  Result<void> run() {
    const std::int64_t k = matrix_.format.k;
    const std::int64_t group = quant::group_columns(matrix_.format);
    for (std::int64_t row = 0; row < matrix_.format.n; ++row) {
      for (std::int64_t column = 0; column < k; column += group) {
        if (auto done = quantize_group(row, column, std::min(group, k - column)); !done) return done;
      }
      ++loss_.rows;
    }
    return {};
  }

 private:
  Result<void> quantize_group(std::int64_t row, std::int64_t column, std::int64_t columns) {
    const std::int64_t k = matrix_.format.k;
    const auto first = static_cast<std::size_t>(row * k + column);
    const auto count = static_cast<std::size_t>(columns);
    const std::span<const float> members = weights_.subspan(first, count);
    const Reach reach = reach_of(members);
    if (!reach.finite) {
      const auto row_start = static_cast<std::size_t>(row * k);
      return refuse_weight(weights_.subspan(row_start, static_cast<std::size_t>(k)), loss_.rows);
    }
    quant::RoundedScale scale(
        choice_ == ScaleChoice::rms ? root_mean_square(members) : exact_scale(reach, reach_),
        matrix_.format.dtype);
    if (!std::isfinite(scale.stored)) return refuse_scale(scale.exact, reach, column, columns);
    const std::span<std::uint8_t> codes = std::span(matrix_.codes).subspan(first, count);
    if (choice_ == ScaleChoice::mse) {
      scale = search_.best(members, static_cast<std::size_t>(column), scale, codes);
    } else {
      nearest_.encode(members, scale.inverse(), codes);
    }
    matrix_.scales[next_scale_++] = scale.bits;

    const double error = table_.squared_error(members, codes, scale.stored);
    loss_.error += error;
    for (const float weight : members) loss_.weights += double{weight} * weight;
    if (scale.exact != 0 && std::fabs(scale.stored) < smallest_normal(matrix_.format.dtype)) {
      note_rounding({loss_.rows, column, column + columns - 1, scale.exact, scale.stored, error}, members);
    }
    return {};
  }

  /// `group.scale_rounding` is the whole error still: what it would be with the exact scale comes off.
  void note_rounding(QuantizationLoss::Group group, std::span<const float> members) {
    exact_codes_.resize(members.size());
    nearest_.encode(members, 1 / group.exact_scale, exact_codes_);
    group.scale_rounding -= table_.squared_error(members, exact_codes_, group.exact_scale);
    loss_.scale_rounding += group.scale_rounding;
    if (group.scale_rounding > loss_.worst.scale_rounding) loss_.worst = group;
  }

  [[nodiscard]] std::unexpected<Error> refuse_scale(double scale, const Reach& reach, std::int64_t column,
                                                    std::int64_t columns) const {
    const std::string origin =
        choice_ == ScaleChoice::rms
            ? "root mean square of the group"
            : fmt::format("max |w| {:.6g} / max |table| {:.6g}", reach.largest(), reach_.largest());
    return refuse(fmt::format(
        "weights: the scale {:.6g} ({}) is beyond the range of {}; {} (row {}, columns {} to {})",
        std::fabs(scale), origin, to_string(matrix_.format.dtype),
        matrix_.format.dtype == DataType::f16 ? "use dtype bf16, or divide the weights by a constant first"
                                              : "divide the weights by a constant first",
        loss_.rows, column, column + columns - 1));
  }

  std::span<const float> weights_;
  const quant::StoredTable& table_;
  Nearest nearest_;
  quant::ScaleSearch<Nearest> search_;
  ScaleChoice choice_;
  Reach reach_;  // of the table
  QuantizedMatrix& matrix_;
  QuantizationLoss& loss_;
  std::size_t next_scale_ = 0;
  std::vector<std::uint8_t> exact_codes_;
};

/// The values of one row of a table for each row.
Table table_of_row(const Table& tables, std::int64_t row) {
  const auto length = static_cast<std::ptrdiff_t>(table_length(tables.bits, tables.kind));
  const auto first = tables.values.begin() + row * length;
  return {tables.name, tables.bits, TableKind::scalar, {first, first + length}};
}

/// Fills scales and codes of a matrix with a table for each row: its rows are matrices of their own.
Result<void> quantize_by_rows(std::span<const float> weights, const Table& tables,
                              const QuantizationOptions& options, QuantizedMatrix& matrix,
                              QuantizationLoss& loss) {
  const WeightFormat& format = matrix.format;
  const auto k = static_cast<std::size_t>(format.k);
  const auto groups = static_cast<std::ptrdiff_t>(groups_per_row(format.group, format.k));
  for (std::int64_t row = 0; row < format.n; ++row) {
    const Table table = table_of_row(tables, row);
    const std::span<const float> members = weights.subspan(static_cast<std::size_t>(row) * k, k);
    const std::int64_t number = loss.rows;
    Result<QuantizedMatrix> of_row =
        quantize(members, 1, format.k, table, format.group, format.dtype, loss, options);
    if (!of_row) {
      of_row.error().context = fmt::format("of the table of row {}", number);
      return failure(of_row);
    }
    std::ranges::copy(of_row->codes, matrix.codes.begin() + row * format.k);
    std::ranges::copy(of_row->scales, matrix.scales.begin() + row * groups);
  }
  return {};
}

Result<QuantizedMatrix> empty_matrix(const WeightFormat& format, const std::vector<float>& table) {
  QuantizedMatrix matrix{format, {}, {}, {}};
  auto codes = allocate<std::uint8_t>(quant::weight_count(matrix.format), "codes");
  if (!codes) return std::unexpected(codes.error());
  auto scales = allocate<std::uint16_t>(quant::scale_count(matrix.format), "scales");
  if (!scales) return std::unexpected(scales.error());
  matrix.codes = std::move(*codes);
  matrix.scales = std::move(*scales);
  for (const float value : table) matrix.table.push_back(to_bits(value, format.dtype));
  return matrix;
}

}  // namespace

double QuantizationLoss::relative_error() const { return weights > 0 ? std::sqrt(error / weights) : 0; }

void QuantizationLoss::add(const QuantizationLoss& other) {
  rows = std::max(rows, other.rows);
  weights += other.weights;
  error += other.error;
  scale_rounding += other.scale_rounding;
  if (other.worst.scale_rounding > worst.scale_rounding) worst = other.worst;
}

Result<void> check_loss(const QuantizationLoss& loss, DataType dtype) {
  constexpr double kMaxGrowth = 9.0 / 8;
  constexpr double kMaxShare = 1.0 / 32;
  const double unrounded = std::max(0.0, loss.error - loss.scale_rounding);
  if (loss.error <= kMaxGrowth * kMaxGrowth * unrounded ||
      loss.scale_rounding <= kMaxShare * kMaxShare * loss.weights) {
    return {};
  }
  const QuantizationLoss::Group& worst = loss.worst;
  return refuse(fmt::format(
      "weights: too small for {}: the rounding of their scales raises the error from {:.1f} % of the weights "
      "to {:.1f} %; {} (most in row {}, columns {} to {}, where the scale {:.3g} becomes {:.3g})",
      to_string(dtype), 100 * std::sqrt(unrounded / loss.weights), 100 * loss.relative_error(),
      dtype == DataType::f16 ? "use dtype bf16, or multiply the weights by a constant first"
                             : "multiply the weights by a constant first",
      worst.row, worst.first_column, worst.last_column, worst.exact_scale, worst.stored_scale));
}

Result<QuantizedMatrix> quantize(std::span<const float> weights, std::int64_t n, std::int64_t k,
                                 const Table& table, int group, DataType dtype, QuantizationLoss& loss,
                                 const QuantizationOptions& options) {
  const WeightFormat format{table.bits, group, n, k, dtype, table.kind};
  if (auto checked = validate(format); !checked) return std::unexpected(checked.error());
  if (auto checked = quant::validate_table(table.bits, table.kind, table.values, dtype); !checked) {
    return std::unexpected(checked.error());
  }
  if (auto checked = quant::validate_importance(options.importance, k); !checked) return failure(checked);
  if (weights.size() != quant::weight_count(format)) {
    return refuse(fmt::format("weights: {} values given; allowed: {} (n {} x k {})", weights.size(),
                              quant::weight_count(format), n, k));
  }
  if (table.values.size() != table_values(format)) {
    return refuse(fmt::format("table: {} values given; allowed: {} ({} for each of {} rows)",
                              table.values.size(), table_values(format), table_length(table.bits, table.kind),
                              n));
  }
  Result<QuantizedMatrix> matrix = empty_matrix(format, table.values);
  if (!matrix) return matrix;
  if (format.row_tables()) {
    if (auto done = quantize_by_rows(weights, table, options, *matrix, loss); !done) return failure(done);
    return matrix;
  }
  const quant::StoredTable stored(*matrix);
  if (reach_of(stored.values).largest() == 0) {
    return refuse(fmt::format("table: all values are 0 in {}; at least one must differ", to_string(dtype)));
  }
  const Result<void> done =
      table.kind == TableKind::scalar
          ? Quantizer<quant::NearestValue>(weights, stored, options, *matrix, loss).run()
          : Quantizer<quant::NearestPair>(weights, stored, options, *matrix, loss).run();
  if (!done) return std::unexpected(done.error());
  return matrix;
}

Result<QuantizedMatrix> quantize(std::span<const float> weights, std::int64_t n, std::int64_t k,
                                 const Table& table, int group, DataType dtype,
                                 const QuantizationOptions& options) {
  QuantizationLoss loss;
  Result<QuantizedMatrix> matrix = quantize(weights, n, k, table, group, dtype, loss, options);
  if (!matrix) return matrix;
  if (auto kept = check_loss(loss, dtype); !kept) return std::unexpected(kept.error());
  return matrix;
}

}  // namespace lutsmith
