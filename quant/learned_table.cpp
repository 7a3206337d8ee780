#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "core/parallel.h"
#include "core/result.h"
#include "quant/clusters.h"
#include "quant/stored_table.h"
#include "quant/validation.h"

namespace lutsmith {
namespace {

constexpr std::int64_t kMostWeights = 1 << 20;
// Rows that one thread works on at a time. Sums are added block by block, so that they do not depend on how
// many threads there are.
constexpr std::int64_t kBlockWeights = 1 << 16;
constexpr std::size_t kBins = 8192;
constexpr double kLeastGain = 1.0 / 2048;

/// What a table makes of the weights.
struct Trial {
  Table table;
  double error = 0;              ///< weighted
  std::vector<quant::Bin> bins;  ///< of weight / scale
};

class Learner {
 public:
  Learner(std::span<const float> weights, const WeightFormat& format, const LearningOptions& options)
      : weights_(weights),
        format_(format),
        options_(options),
        block_rows_(std::max<std::int64_t>(1, kBlockWeights / format.k)) {}

  Result<Trial> try_table(Table table) const {
    const auto blocks = static_cast<std::size_t>((format_.n + block_rows_ - 1) / block_rows_);
    std::vector<Trial> parts(blocks);
    auto done =
        parallel_until_error(blocks, job_count(static_cast<int>(options_.jobs)), [&](std::size_t block) {
          return try_rows(table, static_cast<std::int64_t>(block) * block_rows_, parts[block]);
        });
    if (!done) return failure(done);
    Trial sum{std::move(table), 0, std::vector<quant::Bin>(kBins)};
    for (const Trial& part : parts) {
      sum.error += part.error;
      for (std::size_t i = 0; i < kBins; ++i) sum.bins[i] += part.bins[i];
    }
    return sum;
  }

  /// The best table for the scales of a trial; its largest magnitude is 1.
  [[nodiscard]] Table best_table(const Trial& trial) const {
    std::vector<double> values = quant::cluster_means(trial.bins, trial.table.values.size());
    const double largest = std::max(std::fabs(values.front()), std::fabs(values.back()));
    Table table{fmt::format("kmeans{}", format_.bits), format_.bits, TableKind::scalar, {}};
    for (const double value : values) {
      table.values.push_back(static_cast<float>(largest > 0 ? value / largest : value));
    }
    return table;
  }

 private:
  Result<void> try_rows(const Table& table, std::int64_t first, Trial& trial) const {
    const std::int64_t rows = std::min(block_rows_, format_.n - first);
    const auto columns = static_cast<std::size_t>(format_.k);
    const auto weights =
        weights_.subspan(static_cast<std::size_t>(first) * columns, static_cast<std::size_t>(rows) * columns);
    QuantizationLoss loss{.rows = first};
    auto matrix = quantize(weights, rows, format_.k, table, format_.group, format_.dtype, loss,
                           {.scales = ScaleChoice::mse, .importance = options_.importance});
    if (!matrix) return failure(matrix);
    trial.bins.resize(kBins);
    const quant::StoredTable stored(*matrix);
    const auto group = static_cast<std::size_t>(quant::group_columns(format_));
    // Of what lies beyond, where weights are clipped, only the sum matters.
    const double reach =
        std::max(std::fabs(std::ranges::min(stored.values)), std::fabs(std::ranges::max(stored.values))) *
        1.5;
    std::size_t next_scale = 0;
    for (std::size_t row = 0; row < static_cast<std::size_t>(rows); ++row) {
      for (std::size_t column = 0; column < columns; column += group) {
        const std::size_t count = std::min(group, columns - column);
        const std::size_t start = row * columns + column;
        const double scale = from_bits(matrix->scales[next_scale++], format_.dtype);
        const auto importance =
            options_.importance.empty() ? options_.importance : options_.importance.subspan(column, count);
        const auto members = weights.subspan(start, count);
        trial.error +=
            stored.squared_error(members, std::span(matrix->codes).subspan(start, count), scale, importance);
        if (scale == 0) continue;
        for (std::size_t i = 0; i < count; ++i) {
          const double ratio = members[i] / scale;
          const double mass = scale * scale * (importance.empty() ? 1 : importance[i]);
          trial.bins[bin_of(ratio, reach)] += {mass, mass * ratio};
        }
      }
    }
    return {};
  }

  static std::size_t bin_of(double ratio, double reach) {
    const double place = (ratio / reach + 1) / 2 * kBins;
    return static_cast<std::size_t>(std::clamp(place, 0.0, static_cast<double>(kBins - 1)));
  }

  std::span<const float> weights_;
  WeightFormat format_;
  const LearningOptions& options_;
  std::int64_t block_rows_;
};

/// Tables to begin with, of which the better one is taken.
Result<std::vector<Table>> first_tables(int bits) {
  std::vector<Table> tables;
  auto lloyd = lloyd_max_table(bits);
  if (!lloyd) return failure(lloyd);
  // Larger than 1 it would overflow where the weights themselves just do not.
  const float largest = lloyd->values.back();
  for (float& value : lloyd->values) value /= largest;
  tables.push_back(*std::move(lloyd));
  if (auto normal_float = normal_float_table(bits)) tables.push_back(*std::move(normal_float));
  return tables;
}

bool has_mass(const Trial& trial) {
  return std::ranges::any_of(trial.bins, [](const quant::Bin& bin) { return bin.mass > 0; });
}

}  // namespace

std::vector<std::int64_t> learning_rows(std::int64_t n, std::int64_t k) {
  const std::int64_t rows = std::clamp<std::int64_t>(kMostWeights / k, 1, n);
  std::vector<std::int64_t> result;
  for (std::int64_t i = 0; i < rows; ++i) result.push_back(i * n / rows);
  return result;
}

Result<LearnedTable> learn_table(std::span<const float> weights, std::int64_t n, std::int64_t k, int bits,
                                 int group, DataType dtype, const LearningOptions& options) {
  const WeightFormat format{bits, group, n, k, dtype, TableKind::scalar};
  if (auto checked = validate(format); !checked) return failure(checked);
  if (auto checked = quant::validate_importance(options.importance, k); !checked) return failure(checked);
  if (options.rounds < 1) {
    return refuse(fmt::format("rounds: {} is not allowed; allowed: 1 or more", options.rounds));
  }
  if (weights.size() != quant::weight_count(format)) {
    return refuse(fmt::format("weights: {} values given; allowed: {} (n {} x k {})", weights.size(),
                              quant::weight_count(format), n, k));
  }
  auto tables = first_tables(bits);
  if (!tables) return failure(tables);
  const Learner learner(weights, format, options);
  Trial best;
  for (Table& table : *tables) {
    auto trial = learner.try_table(std::move(table));
    if (!trial) return failure(trial);
    if (best.bins.empty() || trial->error < best.error) best = *std::move(trial);
  }
  best.table.name = fmt::format("kmeans{}", bits);
  LearnedTable learned{{}, {best.error}};
  for (int round = 0; round < options.rounds && has_mass(best); ++round) {
    auto trial = learner.try_table(learner.best_table(best));
    if (!trial) return failure(trial);
    if (!(trial->error < best.error)) break;
    const bool goes_on = trial->error < (1 - kLeastGain) * best.error;
    best = *std::move(trial);
    learned.errors.push_back(best.error);
    if (!goes_on) break;
  }
  learned.table = std::move(best.table);
  return learned;
}

}  // namespace lutsmith
