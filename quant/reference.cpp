#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numbers>
#include <utility>

#include "core/allocate.h"
#include "core/result.h"
#include "quant/validation.h"

namespace lutsmith {
namespace {

/// The weights of a validated matrix, row by row.
class Rows {
 public:
  explicit Rows(const QuantizedMatrix& matrix)
      : matrix_(matrix),
        group_(static_cast<std::size_t>(quant::group_columns(matrix.format))),
        groups_(static_cast<std::size_t>(groups_per_row(matrix.format.group, matrix.format.k))) {
    for (const std::uint16_t bits : matrix.table) table_.push_back(from_bits(bits, matrix.format.dtype));
    std::int64_t end = 0;
    for (const std::int64_t rows : matrix.segments) ends_.push_back(static_cast<std::size_t>(end += rows));
  }

  void write(std::size_t row, std::span<double> weights) const {
    const std::size_t k = weights.size();
    const std::uint8_t* codes = matrix_.codes.data() + row * k;
    const std::uint16_t* scales = matrix_.scales.data() + row * groups_;
    const bool offsets = matrix_.format.offsets;
    const std::span<const double> table = table_of(row);
    for (std::size_t group = 0; group < groups_; ++group) {
      const double scale = from_bits(scales[group], matrix_.format.dtype);
      const double offset =
          offsets ? from_bits(matrix_.offsets[row * groups_ + group], matrix_.format.dtype) : -0.0;
      const std::size_t end = std::min(k, (group + 1) * group_);
      for (std::size_t column = group * group_; column < end; column += 2) {
        const auto [even, odd] = entries(table, codes[column], codes[column + 1]);
        // Products are exact, and adding -0 changes nothing.
        weights[column] = scale * even + offset;
        weights[column + 1] = scale * odd + offset;
      }
    }
  }

 private:
  /// Of the row, or of its segment.
  [[nodiscard]] std::span<const double> table_of(std::size_t row) const {
    if (matrix_.format.row_tables()) {
      const std::size_t each = std::size_t{1} << matrix_.format.bits;
      return std::span(table_).subspan(row * each, each);
    }
    const auto segment = static_cast<std::size_t>(std::ranges::upper_bound(ends_, row) - ends_.begin());
    const std::size_t length = table_.size() / std::max<std::size_t>(1, ends_.size());
    return std::span(table_).subspan(segment * length, length);
  }

  [[nodiscard]] std::pair<double, double> entries(std::span<const double> table, std::size_t even,
                                                  std::size_t odd) const {
    if (matrix_.format.table != TableKind::pair) return {table[even], table[odd]};
    const std::size_t code = even + (odd << matrix_.format.bits);
    return {table[2 * code], table[2 * code + 1]};
  }

  const QuantizedMatrix& matrix_;
  std::size_t group_;
  std::size_t groups_;
  std::vector<double> table_;
  std::vector<std::size_t> ends_;  ///< rows behind each segment
};

/// `left` and `right` have the same length, a multiple of 8. Eight sums side by side, since one
/// would wait for its own addition at every step.
double dot(std::span<const double> left, std::span<const double> right) {
  std::array<double, 8> sums{};
  for (std::size_t i = 0; i < left.size(); i += sums.size()) {
    for (std::size_t j = 0; j < sums.size(); ++j) sums[j] += left[i + j] * right[i + j];
  }
  return ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]));
}

double activation(Gate kind, double gate) {
  if (kind == Gate::silu) return gate / (1 + std::exp(-gate));
  const double inner = std::sqrt(2 / std::numbers::pi) * (gate + 0.044715 * gate * gate * gate);
  return gate / 2 * (1 + std::tanh(inner));
}

/// Where a type rounds, and how finely.
struct Rounding {
  explicit Rounding(OutputType type)
      : fraction_bits(type == OutputType::f16    ? 10
                      : type == OutputType::bf16 ? 7
                                                 : 23),
        smallest_normal(type == OutputType::f16 ? 0x1p-14 : 0x1p-126),
        smallest(std::ldexp(smallest_normal, -fraction_bits)),
        overflow(std::ldexp(2.0 - std::ldexp(0.5, -fraction_bits), type == OutputType::f16 ? 15 : 127)) {}

  /// Distance of neighbours at a magnitude, which is finite.
  [[nodiscard]] double unit(double magnitude) const {
    if (magnitude < smallest_normal) return smallest;
    return std::ldexp(1.0, std::ilogb(magnitude) - fraction_bits);
  }

  int fraction_bits;
  double smallest_normal;
  double smallest;  ///< subnormal number, the unit of them all
  double overflow;  ///< the least magnitude that rounds to infinity
};

std::vector<float> floats_of(std::span<const std::uint16_t> bits, DataType dtype) {
  std::vector<float> values;
  values.reserve(bits.size());
  for (const std::uint16_t value : bits) values.push_back(from_bits(value, dtype));
  return values;
}

}  // namespace

Result<std::vector<double>> dequantize(const QuantizedMatrix& matrix) {
  if (auto checked = quant::validate(matrix); !checked) return std::unexpected(checked.error());
  auto weights = allocate<double>(quant::weight_count(matrix.format), "weights");
  if (!weights) return weights;
  const Rows rows(matrix);
  const auto k = static_cast<std::size_t>(matrix.format.k);
  for (std::size_t row = 0; row * k < weights->size(); ++row) {
    rows.write(row, std::span(*weights).subspan(row * k, k));
  }
  return weights;
}

Result<std::vector<double>> reference_matmul(const QuantizedMatrix& matrix,
                                             std::span<const std::uint16_t> activations, std::int64_t m) {
  if (auto checked = quant::validate(matrix); !checked) return std::unexpected(checked.error());
  const auto n = static_cast<std::size_t>(matrix.format.n);
  const auto k = static_cast<std::size_t>(matrix.format.k);
  if (m < 1) return refuse(fmt::format("m: {} is not allowed; allowed: 1 or more", m));
  const auto tokens = static_cast<std::size_t>(m);
  if (activations.size() % k != 0 || activations.size() / k != tokens) {
    return refuse(
        fmt::format("activations: {} values given; allowed: m {} x k {}", activations.size(), m, k));
  }
  auto inputs = allocate<double>(activations.size(), "activations");
  if (!inputs) return inputs;
  for (std::size_t i = 0; i < activations.size(); ++i)
    (*inputs)[i] = from_bits(activations[i], matrix.format.dtype);
  auto result = allocate<double>(tokens * n, "result");
  if (!result) return result;
  auto weights = allocate<double>(k, "row of weights");
  if (!weights) return weights;

  const Rows rows(matrix);
  for (std::size_t row = 0; row < n; ++row) {
    rows.write(row, *weights);
    for (std::size_t token = 0; token < tokens; ++token) {
      (*result)[token * n + row] = dot(std::span(*inputs).subspan(token * k, k), *weights);
    }
  }
  return result;
}

Result<std::vector<double>> reference_epilogue(std::vector<double> product, const WeightFormat& format,
                                               const ReferenceEpilogue& epilogue) {
  const KernelSpec spec{.format = format,
                        .m = 1,
                        .residual = !epilogue.residual.empty(),
                        .bias = !epilogue.bias.empty(),
                        .gated = epilogue.gated};
  if (Result<void> valid = validate_epilogue(spec); !valid) return failure(valid);
  const auto n = static_cast<std::size_t>(format.n);
  if (product.empty() || product.size() % n != 0) {
    return refuse(fmt::format("product: {} values given; allowed: m x n {}", product.size(), n));
  }
  if (spec.bias && epilogue.bias.size() != n) {
    return refuse(fmt::format("bias: {} values given; allowed: n {}", epilogue.bias.size(), n));
  }
  if (spec.residual && epilogue.residual.size() != product.size()) {
    return refuse(fmt::format("residual: {} values given; allowed: m x n, {}", epilogue.residual.size(),
                              product.size()));
  }
  for (std::size_t i = 0; i < product.size(); ++i) {
    if (spec.bias) product[i] += from_bits(epilogue.bias[i % n], format.dtype);
    if (spec.residual) product[i] += epilogue.residual[i];
  }
  if (spec.gated == Gate::none) return product;
  // In place: what is read lies behind what is written.
  for (std::size_t i = 0; i < product.size() / 2; ++i) {
    const std::size_t gate = i / kGateRows * 2 * kGateRows + i % kGateRows;
    product[i] = activation(spec.gated, product[gate]) * product[gate + kGateRows];
  }
  product.resize(product.size() / 2);
  return product;
}

double relative_error(std::span<const std::uint16_t> result, std::span<const double> reference,
                      DataType dtype) {
  return relative_error(floats_of(result, dtype), reference);
}

double relative_error(std::span<const float> result, std::span<const double> reference) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  if (result.size() != reference.size()) return kInfinity;
  double difference = 0;
  double norm = 0;
  for (std::size_t i = 0; i < result.size(); ++i) {
    const double distance = result[i] - reference[i];
    difference += distance * distance;
    norm += reference[i] * reference[i];
  }
  if (!std::isfinite(difference) || !std::isfinite(norm)) return kInfinity;
  if (norm == 0) return difference == 0 ? 0 : kInfinity;
  return std::sqrt(difference / norm);
}

double allowed_relative_error(DataType dtype) { return dtype == DataType::f16 ? 2.0e-3 : 1.1e-2; }

double allowed_relative_error(const KernelSpec& spec) {
  const bool bf16 = spec.output_type() == OutputType::bf16;
  return std::max(allowed_relative_error(spec.format.dtype),
                  bf16 ? allowed_relative_error(DataType::bf16) : 0);
}

bool ProductError::right() const {
  return wrong_overflow == 0 && not_a_number == 0 && relative_error <= allowed_error;
}

ProductError product_error(std::span<const std::uint16_t> result, std::span<const double> reference,
                           DataType dtype) {
  return product_error(floats_of(result, dtype), reference, {.format = {.dtype = dtype}});
}

ProductError product_error(std::span<const float> result, std::span<const double> reference,
                           const KernelSpec& spec) {
  const double limit = allowed_relative_error(spec);
  ProductError error{.allowed_error = limit};
  if (result.size() != reference.size()) {
    error.relative_error = std::numeric_limits<double>::infinity();
    return error;
  }
  const Rounding rounding(spec.output_type());
  double difference = 0;
  double norm = 0;
  double subnormal = 0;  // sum of squares of half a unit of the subnormal references
  for (std::size_t i = 0; i < result.size(); ++i) {
    const double given = result[i];
    const double exact = reference[i];
    if (std::isnan(given) || std::isnan(exact)) {
      ++error.not_a_number;
      continue;
    }
    const double magnitude = std::fabs(exact);
    if (magnitude > rounding.smallest / 2) ++error.nonzero;
    if (std::isinf(given)) {
      const bool right =
          std::signbit(given) == std::signbit(exact) && magnitude >= rounding.overflow * (1 - limit);
      ++(right ? error.overflowed : error.wrong_overflow);
      continue;
    }
    if (magnitude > rounding.overflow * (1 + limit)) {
      ++error.wrong_overflow;
      continue;
    }
    const double distance = given - exact;
    const double unit = rounding.unit(magnitude);
    difference += distance * distance;
    norm += exact * exact;
    if (magnitude < rounding.smallest_normal) subnormal += unit * unit / 4;
    error.largest_ulps = std::max(error.largest_ulps, std::fabs(distance) / unit);
  }
  if (norm > 0) {
    error.relative_error = std::sqrt(difference / norm);
    error.allowed_error += std::sqrt(subnormal / norm);
  } else if (difference > 0) {
    error.relative_error = std::numeric_limits<double>::infinity();
  }
  return error;
}

}  // namespace lutsmith
