#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "lutsmith/kernel_spec.h"
#include "lutsmith/quantization.h"

namespace lutsmith::cli {

/// Random weights of a spec's shape: codes over the full range, positive scales, an unsorted table.
struct BenchWeights {
  KernelSpec spec;
  std::vector<std::byte> packed;
  std::vector<std::uint16_t> table;
  /// The rows whose results are compared with float64: all of a small matrix; of a large one the first,
  /// the last, and random ones between.
  std::vector<std::int64_t> rows;
  QuantizedMatrix sample;  ///< those rows
};

/// Whether two specs have the same weights (they may differ in m, schedule and target).
bool same_weights(const KernelSpec& left, const KernelSpec& right);

Result<BenchWeights> make_weights(const KernelSpec& spec);

/// Random activations and what the sampled rows should give.
struct BenchTokens {
  std::int64_t m = 1;
  std::vector<std::uint16_t> activations;  ///< [m, k]
  std::vector<double> reference;           ///< [m, rows]
};

/// Gaussian values.
std::vector<std::uint16_t> random_values(std::size_t count, DataType dtype, std::uint64_t seed);

Result<BenchTokens> make_tokens(const BenchWeights& weights, std::int64_t m);

/// Relative error of a whole result [m, n] over the sampled rows; infinity where any of the result, the
/// other rows included, is not a number.
double sampled_error(const BenchWeights& weights, const BenchTokens& tokens,
                     std::span<const std::uint16_t> result);

}  // namespace lutsmith::cli
