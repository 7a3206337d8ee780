#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "lutsmith/quantization.h"
#include "lutsmith/weight_format.h"

namespace lutsmith::measure {

/// Random weights of a format: codes over the full range, positive scales, an unsorted table, offsets of both
/// signs. They cost memory and ALUs what real ones cost; weights of zeros would draw less power and so run at
/// higher clocks.
struct RandomWeights {
  WeightFormat format;
  std::vector<std::byte> packed;
  std::vector<std::uint16_t> table;
  /// The rows whose results are compared with float64: all of a small matrix; of a large one the first,
  /// the last, and random ones between.
  std::vector<std::int64_t> rows;
  QuantizedMatrix sample;  ///< those rows
};

/// The same for the same format. Error: a format that cannot be packed.
Result<RandomWeights> make_random_weights(const WeightFormat& format);

/// Random activations and what they should give, in the sampled rows, for the sampled tokens: all of a few;
/// of many the first, the last, and random ones between. A product for a prompt would otherwise take the
/// reference a minute, and a layer is right in all tiles of tokens or wrong in many.
struct RandomTokens {
  std::int64_t m = 1;
  std::vector<std::uint16_t> activations;  ///< [m, k]
  std::vector<std::int64_t> sampled;       ///< tokens, ascending
  std::vector<double> reference;           ///< [sampled tokens, sampled rows]
};

/// Gaussian values. Beyond a million they begin anew; the period is odd, so that no two rows of a matrix are
/// equal.
std::vector<std::uint16_t> random_values(std::size_t count, DataType dtype, std::uint64_t seed);

Result<RandomTokens> make_random_tokens(const RandomWeights& weights, std::int64_t m);

/// Relative error of a whole result [m, n] over the sampled tokens and rows; infinity where any of the
/// result, what is not sampled included, is not a number.
double sampled_error(const RandomWeights& weights, const RandomTokens& tokens,
                     std::span<const std::uint16_t> result);

}  // namespace lutsmith::measure
