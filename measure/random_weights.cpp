#include "measure/random_weights.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <set>

#include "core/output_values.h"
#include "core/result.h"

namespace lutsmith::measure {
namespace {

constexpr std::size_t kSampledRows = 512;
constexpr std::size_t kSampledTokens = 32;
constexpr std::size_t kValuesBeforeTheyRepeat = (std::size_t{1} << 20) + 7;
/// Size of offsets: that of scale times table value.
constexpr float kOffsetUnit = 0x1p-6F;
/// So that f16 holds every value where sums are beyond its range.
constexpr double kLargestDeviation = 4096;

/// SplitMix64: eight code bytes a step, since a layer of a large model has 10^9 of them.
class Random {
 public:
  using result_type = std::uint64_t;
  explicit Random(std::uint64_t seed) : state_(seed) {}
  static constexpr result_type min() { return 0; }
  static constexpr result_type max() { return std::numeric_limits<result_type>::max(); }
  result_type operator()() {
    std::uint64_t value = state_ += 0x9e3779b97f4a7c15U;
    value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9U;
    value = (value ^ (value >> 27)) * 0x94d049bb133111ebU;
    return value ^ (value >> 31);
  }

 private:
  std::uint64_t state_;
};

std::vector<std::uint8_t> random_codes(std::size_t count, int bits, Random& random) {
  std::vector<std::uint8_t> codes(count);
  const auto mask = static_cast<std::uint8_t>((1 << bits) - 1);
  std::uint64_t word = 0;
  for (std::size_t i = 0; i < count; ++i) {
    word = i % 8 == 0 ? random() : word >> 8;
    codes[i] = static_cast<std::uint8_t>(word) & mask;
  }
  return codes;
}

/// Of 0 .. count - 1 at most so many, ascending: all, or the first, the last and random ones between.
std::vector<std::int64_t> sample_of(std::int64_t count, std::size_t at_most, Random& random) {
  if (static_cast<std::size_t>(count) <= at_most) {
    std::vector<std::int64_t> all(static_cast<std::size_t>(count));
    std::iota(all.begin(), all.end(), 0);
    return all;
  }
  std::set<std::int64_t> sample{0, count - 1};
  std::uniform_int_distribution<std::int64_t> any(0, count - 1);
  while (sample.size() < at_most) sample.insert(any(random));
  return {sample.begin(), sample.end()};
}

/// Where the gate of sampled channel i stands among the sampled rows; kGateRows behind it, what it lets
/// through.
std::size_t gate_row(std::size_t i) {
  constexpr auto kRows = static_cast<std::size_t>(kGateRows);
  return i / kRows * 2 * kRows + i % kRows;
}

/// See RandomWeights::rows.
std::vector<std::int64_t> sample_rows(std::int64_t n, Random& random) {
  if (n % (2 * kGateRows) != 0) return sample_of(n, kSampledRows, random);
  const std::vector<std::int64_t> channels = sample_of(n / 2, kSampledRows / 2, random);
  std::vector<std::int64_t> rows(2 * channels.size());
  for (std::size_t i = 0; i < channels.size(); ++i) {
    const std::int64_t gate = channels[i] / kGateRows * 2 * kGateRows + channels[i] % kGateRows;
    rows[gate_row(i)] = gate;
    rows[gate_row(i) + kGateRows] = gate + kGateRows;
  }
  return rows;
}

/// The channels of Y that sampled rows of the weights make.
std::vector<std::int64_t> channels_of(const std::vector<std::int64_t>& rows, Gate gated) {
  if (gated == Gate::none) return rows;
  std::vector<std::int64_t> channels(rows.size() / 2);
  for (std::size_t i = 0; i < channels.size(); ++i) {
    const std::int64_t gate = rows[gate_row(i)];
    channels[i] = gate / (2 * kGateRows) * kGateRows + gate % kGateRows;
  }
  return channels;
}

/// A half of the rows, a quarter, and the rest.
std::vector<std::int64_t> segments_of(std::int64_t n, int segment_rows) {
  std::vector<std::int64_t> segments;
  std::int64_t left = n;
  for (int i = 0; segment_rows > 0 && i < 2; ++i) {
    const std::int64_t rows = left / 2 / segment_rows * segment_rows;
    if (rows > 0) segments.push_back(rows);
    left -= rows;
  }
  if (segment_rows > 0) segments.push_back(left);
  return segments;
}

/// Gives the sample the segments of those rows, which ascend, and their tables.
void set_segments(QuantizedMatrix& sample, const QuantizedMatrix& matrix,
                  const std::vector<std::int64_t>& rows) {
  if (matrix.segments.empty()) return;
  const std::size_t length = matrix.table.size() / matrix.segments.size();
  sample.table.clear();
  auto row = rows.begin();
  std::int64_t end = 0;
  for (std::size_t i = 0; i < matrix.segments.size(); ++i) {
    const auto behind = std::lower_bound(row, rows.end(), end += matrix.segments[i]);
    if (behind == row) continue;
    sample.segments.push_back(behind - row);
    const std::span table = std::span(matrix.table).subspan(i * length, length);
    sample.table.insert(sample.table.end(), table.begin(), table.end());
    row = behind;
  }
}

QuantizedMatrix rows_of(const QuantizedMatrix& matrix, const std::vector<std::int64_t>& rows) {
  const std::int64_t k = matrix.format.k;
  const std::int64_t groups = groups_per_row(matrix.format.group, k);
  const bool row_tables = matrix.format.row_tables();
  const std::int64_t values = std::int64_t{1} << matrix.format.bits;  // of a row, where it has its own
  QuantizedMatrix sample{.format = matrix.format, .codes = {}, .scales = {}, .table = {}};
  sample.format.n = static_cast<std::int64_t>(rows.size());
  if (!row_tables) sample.table = matrix.table;
  set_segments(sample, matrix, rows);
  for (const std::int64_t row : rows) {
    const auto codes = matrix.codes.begin() + row * k;
    sample.codes.insert(sample.codes.end(), codes, codes + k);
    const auto scales = matrix.scales.begin() + row * groups;
    sample.scales.insert(sample.scales.end(), scales, scales + groups);
    if (row_tables) {
      const auto table = matrix.table.begin() + row * values;
      sample.table.insert(sample.table.end(), table, table + values);
    }
    if (!matrix.format.offsets) continue;
    const auto offsets = matrix.offsets.begin() + row * groups;
    sample.offsets.insert(sample.offsets.end(), offsets, offsets + groups);
  }
  return sample;
}

/// Gaussian values as random_values() has them, each as `convert` makes it.
template <class Convert>
auto drawn_values(std::size_t count, std::uint64_t seed, float deviation, Convert convert) {
  Random random(seed);
  std::normal_distribution<float> normal;
  std::vector<decltype(convert(deviation))> values(count);
  const std::size_t drawn = std::min(count, kValuesBeforeTheyRepeat);
  for (std::size_t i = 0; i < drawn; ++i) values[i] = convert(deviation * normal(random));
  for (std::size_t i = drawn; i < count; ++i) values[i] = values[i - drawn];
  return values;
}

/// Those elements of a row-major matrix with so many columns.
template <class Value>
std::vector<Value> elements_of(const std::vector<Value>& matrix, std::int64_t width,
                               const std::vector<std::int64_t>& rows,
                               const std::vector<std::int64_t>& columns) {
  std::vector<Value> elements;
  elements.reserve(rows.size() * columns.size());
  for (const std::int64_t row : rows) {
    for (const std::int64_t column : columns) {
      elements.push_back(matrix[static_cast<std::size_t>(row * width + column)]);
    }
  }
  return elements;
}

/// The sums of the sampled rows for the sampled tokens.
Result<std::vector<double>> sums_of(const RandomWeights& weights, const RandomTokens& tokens) {
  const std::int64_t k = weights.format.k;
  std::vector<std::uint16_t> sample;
  for (const std::int64_t token : tokens.sampled) {
    const auto values = tokens.activations.begin() + token * k;
    sample.insert(sample.end(), values, values + k);
  }
  return reference_matmul(weights.sample, sample, static_cast<std::int64_t>(tokens.sampled.size()));
}

/// What a kernel makes of them.
Result<std::vector<double>> finish(std::vector<double> sums, const RandomWeights& weights,
                                   const RandomTokens& tokens, Gate gated) {
  const std::int64_t n = weights.format.n;
  std::vector<std::uint16_t> bias;
  std::vector<float> residual;
  if (!tokens.added.bias.empty()) bias = elements_of(tokens.added.bias, n, {0}, weights.rows);
  if (!tokens.added.residual.empty()) {
    residual = elements_of(tokens.added.residual, n, tokens.sampled, weights.rows);
  }
  return reference_epilogue(std::move(sums), weights.sample.format,
                            {.gated = gated, .bias = bias, .residual = residual});
}

}  // namespace

Result<RandomWeights> make_random_weights(const WeightFormat& format, int segment_rows) {
  if (Result<void> valid = validate(format); !valid) return failure(valid);
  Random random(static_cast<std::uint64_t>(format.n * 31 + format.k * 7 + format.bits));
  QuantizedMatrix matrix;
  matrix.format = format;
  matrix.codes = random_codes(static_cast<std::size_t>(format.n * format.k), format.bits, random);
  matrix.scales.resize(static_cast<std::size_t>(format.n * groups_per_row(format.group, format.k)));
  std::uniform_real_distribution<float> scale(0.01F, 0.03F);
  for (std::uint16_t& value : matrix.scales) value = to_bits(scale(random), format.dtype);
  matrix.segments = segments_of(format.n, segment_rows);
  const std::size_t tables = std::max<std::size_t>(1, matrix.segments.size());
  matrix.table = random_values(tables * table_values(format), format.dtype, random());
  if (format.offsets) {
    matrix.offsets = random_values(matrix.scales.size(), format.dtype, random(), kOffsetUnit);
  }

  Result<std::vector<std::byte>> packed = pack(matrix);
  if (!packed) return failure(packed);
  const std::vector<std::int64_t> rows =
      matrix.segments.empty() ? sample_rows(format.n, random) : sample_of(format.n, kSampledRows, random);
  return RandomWeights{.format = format,
                       .packed = std::move(*packed),
                       .table = format.row_tables() ? std::vector<std::uint16_t>{} : matrix.table,
                       .segments = matrix.segments,
                       .rows = rows,
                       .sample = rows_of(matrix, rows)};
}

std::vector<std::uint16_t> random_values(std::size_t count, DataType dtype, std::uint64_t seed,
                                         float deviation) {
  return drawn_values(count, seed, deviation, [dtype](float value) { return to_bits(value, dtype); });
}

AddedTerms make_added_terms(const KernelSpec& spec, std::span<const double> sums, std::uint64_t seed) {
  double energy = 0;
  for (const double sum : sums) energy += sum * sum;
  const double size = sums.empty() ? 1 : std::sqrt(energy / static_cast<double>(sums.size()));
  const auto deviation = static_cast<float>(std::min(size, kLargestDeviation));
  const DataType dtype = spec.format.dtype;
  const auto n = static_cast<std::size_t>(spec.format.n);
  AddedTerms added;
  if (spec.residual) {
    added.residual =
        drawn_values(static_cast<std::size_t>(spec.m) * n, seed, deviation,
                     [type = spec.output_type()](float value) { return core::rounded_to(value, type); });
  }
  if (spec.bias) added.bias = random_values(n, dtype, ~seed, deviation);
  return added;
}

Result<RandomTokens> make_random_tokens(const RandomWeights& weights, const KernelSpec& spec) {
  if (Result<void> valid = validate_epilogue(spec); !valid) return failure(valid);
  const WeightFormat& format = weights.format;
  const std::int64_t m = spec.m;
  const auto seed = static_cast<std::uint64_t>(m);
  Random random(seed);
  RandomTokens tokens;
  tokens.m = m;
  tokens.activations = random_values(static_cast<std::size_t>(m * format.k), format.dtype, seed);
  tokens.output_channels = spec.output_channels();
  tokens.sampled = sample_of(m, kSampledTokens, random);
  tokens.channels = channels_of(weights.rows, spec.gated);
  Result<std::vector<double>> sums = sums_of(weights, tokens);
  if (!sums) return failure(sums);
  tokens.added = make_added_terms(spec, *sums, random());
  Result<std::vector<double>> reference = finish(*std::move(sums), weights, tokens, spec.gated);
  if (!reference) return failure(reference);
  tokens.reference = std::move(*reference);
  return tokens;
}

double sampled_error(const RandomTokens& tokens, const std::vector<float>& result) {
  const bool finite = std::ranges::all_of(result, [](float value) { return std::isfinite(value); });
  if (!finite) return std::numeric_limits<double>::infinity();
  return relative_error(elements_of(result, tokens.output_channels, tokens.sampled, tokens.channels),
                        tokens.reference);
}

}  // namespace lutsmith::measure
