#include "problem.h"

#include <algorithm>
#include <random>

#include "core/output_values.h"
#include "must.h"

namespace lutsmith::test {
namespace {

using Random = std::mt19937_64;

struct Extremes {
  float largest;
  float smallest;
  float subnormal;  ///< the unit of subnormal numbers
};

// bf16's range is fp32's; its largest values would overflow the fp32 sums that every kernel keeps.
Extremes extremes(DataType dtype) {
  return dtype == DataType::f16 ? Extremes{65504.0F, 0x1p-14F, 0x1p-24F}
                                : Extremes{0x1p100F, 0x1p-100F, 0x1p-133F};
}

float table_value(TableStyle style, DataType dtype, int index, Random& random) {
  std::normal_distribution<float> normal;
  const Extremes range = extremes(dtype);
  switch (style) {
    case TableStyle::random:
      return normal(random);
    case TableStyle::zeros:
      return index % 2 == 0 ? 0.0F : normal(random);
    case TableStyle::duplicates:
      return index % 3 == 0 ? 0.75F : -1.25F;
    case TableStyle::extremes:
      return (index % 3 == 1 ? -1.0F : 1.0F) * (index % 4 == 0 ? range.smallest : range.largest);
    case TableStyle::subnormal:
      return range.subnormal * static_cast<float>(random() % 127 + 1) * (index % 2 == 0 ? 1.0F : -1.0F);
  }
  return 0.0F;
}

// Magnitude of scales that bring scale * table near 1/16, before they get mantissas and signs of their own.
float scale_unit(TableStyle style, DataType dtype) {
  const Extremes range = extremes(dtype);
  switch (style) {
    case TableStyle::extremes:
      return 0x1p-4F / range.largest;
    case TableStyle::subnormal:
      return std::min(0x1p-10F / range.subnormal, 0x1p14F);
    default:
      return 0x1p-4F;
  }
}

/// One segment of as few rows as there may be, then others as long as they can be.
std::vector<std::int64_t> segments_of(const KernelSpec& spec) {
  std::vector<std::int64_t> segments;
  std::int64_t left = spec.format.n;
  const std::int64_t unit = spec.segment_rows;
  for (std::size_t i = 0; i + 1 < kMostSegments && left > unit; ++i) {
    const std::int64_t rows = i == 0 ? unit : std::max(unit, left / 2 / unit * unit);
    segments.push_back(rows);
    left -= rows;
  }
  segments.push_back(left);
  return segments;
}

}  // namespace

Problem make_problem(const KernelSpec& spec, std::int64_t m, const ProblemOptions& options) {
  const WeightFormat& format = spec.format;
  Random random(options.seed);
  std::uniform_real_distribution<float> spread(0.5F, 2.0F);
  std::normal_distribution<float> normal;
  Problem problem;
  problem.m = m;
  QuantizedMatrix& matrix = problem.matrix;
  matrix.format = format;
  if (spec.segment_rows > 0) matrix.segments = segments_of(spec);
  const std::size_t tables = std::max<std::size_t>(1, matrix.segments.size());
  matrix.table.resize(tables * table_values(format));
  for (std::size_t i = 0; i < matrix.table.size(); ++i) {
    matrix.table[i] =
        to_bits(table_value(options.table, format.dtype, static_cast<int>(i), random), format.dtype);
  }
  matrix.codes.resize(static_cast<std::size_t>(format.n * format.k));
  const std::uint64_t mask = (std::uint64_t{1} << format.bits) - 1;
  for (std::uint8_t& code : matrix.codes) code = static_cast<std::uint8_t>(random() >> 32 & mask);
  matrix.scales.resize(static_cast<std::size_t>(format.n * groups_per_row(format.group, format.k)));
  const float unit = scale_unit(options.table, format.dtype);
  for (std::uint16_t& scale : matrix.scales) {
    const float sign = random() % 2 == 0 ? 1.0F : -1.0F;
    scale = to_bits(sign * unit * spread(random), format.dtype);
  }
  if (format.offsets) matrix.offsets.resize(matrix.scales.size());
  // About as large as scale times table value, so that neither hides a mistake in the other.
  for (std::uint16_t& offset : matrix.offsets) offset = to_bits(normal(random) * 0x1p-4F, format.dtype);
  problem.activations.resize(static_cast<std::size_t>(m * format.k));
  for (std::uint16_t& value : problem.activations) value = to_bits(normal(random), format.dtype);
  problem.gated = spec.gated;
  problem.output = spec.output_type();
  if (spec.bias) {
    problem.bias.resize(static_cast<std::size_t>(format.n));
    for (std::uint16_t& value : problem.bias) value = to_bits(normal(random), format.dtype);
  }
  if (spec.residual) {
    problem.residual.resize(static_cast<std::size_t>(m * format.n));
    for (float& value : problem.residual) value = core::rounded_to(normal(random), problem.output);
  }
  repack(problem);
  return problem;
}

Problem make_integer_problem(const KernelSpec& spec, std::int64_t m, std::uint64_t seed) {
  const WeightFormat& format = spec.format;
  Problem problem = make_problem(spec, m, {.seed = seed});
  Random random(seed);
  std::normal_distribution<float> normal(0, 0.02F);
  std::vector<float> weights(static_cast<std::size_t>(format.n * format.k));
  for (float& weight : weights) weight = normal(random);
  problem.matrix = must(
      quantize(weights, format.n, format.k, must(integer_table(format.bits)), format.group, format.dtype));
  repack(problem);
  return problem;
}

void set_identity_rows(Problem& problem, std::int64_t first, std::int64_t m) {
  problem.m = m;
  problem.activations.assign(static_cast<std::size_t>(m * problem.k()), 0);
  for (std::int64_t row = 0; row < m && first + row < problem.k(); ++row) {
    problem.activations[static_cast<std::size_t>(row * problem.k() + first + row)] =
        to_bits(1.0F, problem.matrix.format.dtype);
  }
}

void repack(Problem& problem) { problem.packed = must(pack(problem.matrix)); }

double tolerance(DataType dtype) { return dtype == DataType::f16 ? 2.0e-3 : 1.1e-2; }

double tolerance(const KernelSpec& spec) {
  // Scaled weights may have been rounded, but not where scales belong to the sums.
  const bool scales_of_sums = spec.format.group == kPerChannel && !spec.format.offsets;
  if (spec.output_type() == OutputType::f32 && scales_of_sums) return 5e-5;
  const bool bf16 = spec.output_type() == OutputType::bf16;
  return tolerance(bf16 ? DataType::bf16 : spec.format.dtype);
}

std::vector<double> reference_of(const Problem& problem) {
  return must(reference_epilogue(
      must(reference_matmul(problem.matrix, problem.activations, problem.m)), problem.matrix.format,
      {.gated = problem.gated, .bias = problem.bias, .residual = problem.residual}));
}

void oppose_sums(Problem& problem) {
  problem.residual.assign(static_cast<std::size_t>(problem.m * problem.n()), 0);
  const std::vector<double> sums = reference_of(problem);
  for (std::size_t i = 0; i < sums.size(); ++i) {
    problem.residual[i] = core::rounded_to(-static_cast<float>(sums[i]), problem.output);
  }
}

void share_residual(Problem& problem) {
  for (float& value : problem.residual) {
    value = core::rounded_to(core::rounded_to(value, OutputType::bf16), OutputType::f16);
  }
}

double error_of(const Problem& problem, const std::vector<std::byte>& result) {
  return relative_error(core::values_of(result, problem.output), reference_of(problem));
}

double error_of(const Problem& problem, const std::vector<std::uint16_t>& result) {
  return relative_error(result, reference_of(problem), problem.matrix.format.dtype);
}

}  // namespace lutsmith::test
