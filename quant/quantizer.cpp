#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "core/allocate.h"
#include "core/result.h"
#include "quant/nearest_code.h"
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

/// Zeros without a sign.
std::uint16_t round_scale(double exact, DataType dtype) {
  const std::uint16_t rounded = to_bits(static_cast<float>(exact), dtype);
  return rounded == 0x8000 ? 0 : rounded;
}

std::unexpected<Error> refuse_weight(std::span<const float> row, std::int64_t row_index) {
  const auto bad = std::ranges::find_if(row, [](float weight) { return !std::isfinite(weight); });
  return refuse(fmt::format("weights: {} at row {}, column {}; every weight must be finite", *bad, row_index,
                            bad - row.begin()));
}

float smallest_normal(DataType dtype) { return dtype == DataType::f16 ? 0x1p-14F : 0x1p-126F; }

/// The table as it is stored, for looking up and for measuring.
struct Entries {
  explicit Entries(const QuantizedMatrix& matrix) : bits(matrix.format.bits), kind(matrix.format.table) {
    for (const std::uint16_t value : matrix.table) values.push_back(from_bits(value, matrix.format.dtype));
  }

  /// Sum of (scale * entry - w)^2; an even number of weights.
  [[nodiscard]] double squared_error(std::span<const float> weights, std::span<const std::uint8_t> codes,
                                     double scale) const {
    double sum = 0;
    for (std::size_t i = 0; i + 1 < weights.size(); i += 2) {
      std::size_t even = codes[i];
      std::size_t odd = codes[i + 1];
      if (kind == TableKind::pair) {
        even = 2 * (even + (odd << bits));
        odd = even + 1;
      }
      const double first = scale * values[even] - weights[i];
      const double second = scale * values[odd] - weights[i + 1];
      sum += first * first + second * second;
    }
    return sum;
  }

  int bits;
  TableKind kind;
  std::vector<float> values;
};

/// Fills scales and codes of a matrix whose other fields are set.
template <class Nearest>
class Quantizer {
 public:
  Quantizer(std::span<const float> weights, const Entries& entries, QuantizedMatrix& matrix,
            QuantizationLoss& loss)
      : weights_(weights),
        entries_(entries),
        nearest_(entries.values, entries.bits),
        reach_(reach_of(entries.values)),
        matrix_(matrix),
        loss_(loss) {}

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
    const double exact = exact_scale(reach, reach_);
    const std::uint16_t rounded = round_scale(exact, matrix_.format.dtype);
    const float scale = from_bits(rounded, matrix_.format.dtype);
    if (!std::isfinite(scale)) return refuse_scale(reach, column, columns);
    // A scale of 0 (weights all zero, or too small for the type) makes every code right: the one nearest to
    // zero is taken.
    const std::span<std::uint8_t> codes = std::span(matrix_.codes).subspan(first, count);
    nearest_.encode(members, scale == 0 ? 0 : 1 / double{scale}, codes);
    matrix_.scales[next_scale_++] = rounded;

    const double error = entries_.squared_error(members, codes, scale);
    loss_.error += error;
    for (const float weight : members) loss_.weights += double{weight} * weight;
    if (exact != 0 && std::fabs(scale) < smallest_normal(matrix_.format.dtype)) {
      note_rounding({loss_.rows, column, column + columns - 1, exact, scale, error}, members);
    }
    return {};
  }

  /// `group.scale_rounding` is the whole error still: what it would be with the exact scale comes off.
  void note_rounding(QuantizationLoss::Group group, std::span<const float> members) {
    exact_codes_.resize(members.size());
    nearest_.encode(members, 1 / group.exact_scale, exact_codes_);
    group.scale_rounding -= entries_.squared_error(members, exact_codes_, group.exact_scale);
    loss_.scale_rounding += group.scale_rounding;
    if (group.scale_rounding > loss_.worst.scale_rounding) loss_.worst = group;
  }

  [[nodiscard]] std::unexpected<Error> refuse_scale(const Reach& reach, std::int64_t column,
                                                    std::int64_t columns) const {
    return refuse(fmt::format(
        "weights: the scale {:.6g} (max |w| {:.6g} / max |table| {:.6g}) is beyond the range of {}; {} (row "
        "{}, columns {} to {})",
        double{reach.largest()} / reach_.largest(), reach.largest(), reach_.largest(),
        to_string(matrix_.format.dtype),
        matrix_.format.dtype == DataType::f16 ? "use dtype bf16, or divide the weights by a constant first"
                                              : "divide the weights by a constant first",
        loss_.rows, column, column + columns - 1));
  }

  std::span<const float> weights_;
  const Entries& entries_;
  Nearest nearest_;
  Reach reach_;  // of the table
  QuantizedMatrix& matrix_;
  QuantizationLoss& loss_;
  std::size_t next_scale_ = 0;
  std::vector<std::uint8_t> exact_codes_;
};

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
                                 const Table& table, int group, DataType dtype, QuantizationLoss& loss) {
  const WeightFormat format{table.bits, group, n, k, dtype, table.kind};
  if (auto checked = validate(format); !checked) return std::unexpected(checked.error());
  if (auto checked = quant::validate_table(table.bits, table.kind, table.values, dtype); !checked) {
    return std::unexpected(checked.error());
  }
  if (weights.size() != quant::weight_count(format)) {
    return refuse(fmt::format("weights: {} values given; allowed: {} (n {} x k {})", weights.size(),
                              quant::weight_count(format), n, k));
  }
  Result<QuantizedMatrix> matrix = empty_matrix(format, table.values);
  if (!matrix) return matrix;
  const Entries entries(*matrix);
  if (reach_of(entries.values).largest() == 0) {
    return refuse(fmt::format("table: all values are 0 in {}; at least one must differ", to_string(dtype)));
  }
  const Result<void> done = table.kind == TableKind::scalar
                                ? Quantizer<quant::NearestValue>(weights, entries, *matrix, loss).run()
                                : Quantizer<quant::NearestPair>(weights, entries, *matrix, loss).run();
  if (!done) return std::unexpected(done.error());
  return matrix;
}

Result<QuantizedMatrix> quantize(std::span<const float> weights, std::int64_t n, std::int64_t k,
                                 const Table& table, int group, DataType dtype) {
  QuantizationLoss loss;
  Result<QuantizedMatrix> matrix = quantize(weights, n, k, table, group, dtype, loss);
  if (!matrix) return matrix;
  if (auto kept = check_loss(loss, dtype); !kept) return std::unexpected(kept.error());
  return matrix;
}

}  // namespace lutsmith
