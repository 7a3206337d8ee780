#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "lutsmith/quantization.h"
#include "quant/stored_table.h"

namespace lutsmith::quant {

/// A scale before and after it is rounded to 16 bits. Zeros have no sign.
struct RoundedScale {
  RoundedScale() = default;
  RoundedScale(double exact_scale, DataType dtype)
      : exact(exact_scale), bits(to_bits(static_cast<float>(exact_scale), dtype)) {
    if (bits == 0x8000) bits = 0;
    stored = from_bits(bits, dtype);
  }
  /// What codes are looked up with. A scale of 0 makes every code right; then it is the one nearest to zero.
  [[nodiscard]] double inverse() const { return stored == 0 ? 0 : 1 / double{stored}; }

  double exact = 0;
  std::uint16_t bits = 0;
  float stored = 0;
};

/// Finds the scale of a group with the least squared error, each weight being rounded to the nearest entry
/// (or pair). As a function of the scale that error has many minima, so it is computed for a grid of factors
/// around a first scale, with both signs unless the table is symmetric; from the best of them on scale and
/// codes take turns, each being the best for the other, while that gains. All scales are compared as they are
/// stored, and the first one wins unless another is better: so no group is worse than with the first.
template <class Nearest>
class ScaleSearch {
 public:
  /// `importance`: one for each weight of a row, see QuantizationOptions; may be empty. All outlive this.
  ScaleSearch(const StoredTable& table, const Nearest& nearest, DataType dtype,
              std::span<const float> importance)
      : table_(table),
        nearest_(nearest),
        dtype_(dtype),
        importance_(importance),
        both_signs_(!table.symmetric()) {}

  /// Of the group that starts at column `first` of a row. `codes` become those of the result.
  RoundedScale best(std::span<const float> weights, std::size_t first, const RoundedScale& start,
                    std::span<std::uint8_t> codes) {
    group_ = {weights, importance_.empty() ? importance_ : importance_.subspan(first, weights.size()), codes};
    trial_.resize(weights.size());
    least_error_ = std::numeric_limits<double>::infinity();
    consider(start);
    if (start.exact == 0) return best_;  // all weights are 0
    for (const int factor : kFactors) {
      const double exact = start.exact * factor / kUnit;
      consider({exact, dtype_});
      if (both_signs_) consider({-exact, dtype_});
    }
    for (int turn = 0; turn < kMostTurns; ++turn) {
      if (!consider({table_.best_scale(weights, codes, group_.importance), dtype_})) break;
    }
    return best_;
  }

 private:
  // From 1/20 (a row whose few outliers are better clipped) to 6/5 (a table whose last entries are apart) of
  // the first scale, the likeliest first, so that most others are given up early. Near 1, where an error has
  // most minima, the steps are those that lose at most 0.3 % to steps of 1 % (4 bits, normal weights, groups
  // of 64).
  static constexpr int kUnit = 100;
  static constexpr std::array kFactors{90, 100, 80, 95,  85,  70, 75, 65, 60, 105, 110, 55, 50, 45,
                                       40, 35,  30, 115, 120, 25, 20, 16, 13, 10,  8,   6,  5};
  static constexpr int kMostTurns = 8;
  static constexpr std::size_t kChunk = 16;  // weights between two looks at whether it is worth going on

  struct Group {
    std::span<const float> weights;
    std::span<const float> importance;
    std::span<std::uint8_t> codes;
  };

  /// Whether it is the best so far.
  bool consider(const RoundedScale& scale) {
    if (!std::isfinite(scale.stored)) return false;
    double error = 0;
    for (std::size_t i = 0; i < group_.weights.size(); i += kChunk) {
      const std::size_t count = std::min(kChunk, group_.weights.size() - i);
      const auto weights = group_.weights.subspan(i, count);
      const auto codes = std::span(trial_).subspan(i, count);
      const auto importance =
          group_.importance.empty() ? group_.importance : group_.importance.subspan(i, count);
      nearest_.encode(weights, scale.inverse(), codes, importance);
      error += table_.squared_error(weights, codes, scale.stored, importance);
      if (error >= least_error_) return false;
    }
    least_error_ = error;
    best_ = scale;
    std::ranges::copy(trial_, group_.codes.begin());
    return true;
  }

  const StoredTable& table_;
  const Nearest& nearest_;
  DataType dtype_;
  std::span<const float> importance_;
  bool both_signs_;
  Group group_;
  std::vector<std::uint8_t> trial_;
  double least_error_ = 0;
  RoundedScale best_;
};

}  // namespace lutsmith::quant
