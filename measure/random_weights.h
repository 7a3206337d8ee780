#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "lutsmith/kernel_spec.h"
#include "lutsmith/quantization.h"
#include "lutsmith/weight_format.h"

namespace lutsmith::measure {

/// Random weights of a format: codes over the full range, positive scales, an unsorted table, offsets of both
/// signs. They cost memory and ALUs what real ones cost; weights of zeros would draw less power and so run at
/// higher clocks.
struct RandomWeights {
  WeightFormat format;
  std::vector<std::byte> packed;
  /// Of a launch: of segments one behind another, none where the packed bytes have tables.
  std::vector<std::uint16_t> table;
  /// Rows of each segment, as a launch takes them; none where there is one table.
  std::vector<std::int64_t> segments;
  /// The rows whose results are compared with float64: all of a small matrix; of a large one the first,
  /// the last, and random ones between. Where the number of rows allows gates, they are sampled in pairs that
  /// make one gated sum, and stand as gates want them: 8 of the gate, the 8 that they let through.
  std::vector<std::int64_t> rows;
  QuantizedMatrix sample;  ///< those rows
};

/// The same for the same arguments. With segment_rows of a spec, the rows come in three segments of which the
/// first has a half, as q, k and v of a layer do; in fewer where there are few rows. Error: a format that
/// cannot be packed.
Result<RandomWeights> make_random_weights(const WeightFormat& format, int segment_rows = 0);

/// What a spec's kernel adds to its sums.
struct AddedTerms {
  std::vector<float> residual;      ///< [m, n], of the output's type; empty where the spec has none
  std::vector<std::uint16_t> bias;  ///< [n], likewise empty
};

/// Random ones, about as large as the sums they are added to, so that neither hides a mistake in the other.
/// `sums`: some of those, finite, of the spec's products.
AddedTerms make_added_terms(const KernelSpec& spec, std::span<const double> sums, std::uint64_t seed);

/// Random activations, a random residual and bias of a spec that has them, and what they should give, in the
/// sampled rows, for the sampled tokens: all of a few; of many the first, the last, and random ones between.
/// A product for a prompt would otherwise take the reference a minute, and a layer is right in all tiles of
/// tokens or wrong in many.
struct RandomTokens {
  std::int64_t m = 1;
  std::vector<std::uint16_t> activations;  ///< [m, k]
  AddedTerms added;
  std::int64_t output_channels = 0;    ///< of Y: n, half as many where the spec has gates
  std::vector<std::int64_t> sampled;   ///< tokens, ascending
  std::vector<std::int64_t> channels;  ///< of Y, that the sampled rows make
  std::vector<double> reference;       ///< [sampled tokens, those channels]
};

/// Gaussian values of that standard deviation. Beyond a million they begin anew; the period is odd, so that
/// no two rows of a matrix are equal.
std::vector<std::uint16_t> random_values(std::size_t count, DataType dtype, std::uint64_t seed,
                                         float deviation = 1);

/// For the m and the epilogue of a spec with the format of `weights`. Errors: those of validate_epilogue.
Result<RandomTokens> make_random_tokens(const RandomWeights& weights, const KernelSpec& spec);

/// Relative error of a whole result [m, output channels] over what was sampled; infinity where any of the
/// result, what is not sampled included, is not a number.
double sampled_error(const RandomTokens& tokens, const std::vector<float>& result);

}  // namespace lutsmith::measure
