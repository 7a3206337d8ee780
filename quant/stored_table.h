#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "lutsmith/quantization.h"

namespace lutsmith::quant {

/// The values behind the codes as they are stored, rounded to 16 bits: what errors are measured with.
struct StoredTable {
  explicit StoredTable(const QuantizedMatrix& matrix);

  /// Sum of (scale * entry - w)^2 of an even number of weights, and of their codes. With `importance`, one
  /// for each weight, every square counts so many times.
  [[nodiscard]] double squared_error(std::span<const float> weights, std::span<const std::uint8_t> codes,
                                     double scale, std::span<const float> importance = {}) const;

  /// The scale that gives these codes the least such error; 0 where none of them stands for a number.
  [[nodiscard]] double best_scale(std::span<const float> weights, std::span<const std::uint8_t> codes,
                                  std::span<const float> importance = {}) const;

  /// Whether with every entry (or pair) its negative is one too, so that scales need no sign.
  [[nodiscard]] bool symmetric() const;

  int bits;
  TableKind kind;
  std::vector<float> values;

 private:
  /// Calls visit(i, value) for every weight.
  template <class Visit>
  void for_each_value(std::span<const std::uint8_t> codes, const Visit& visit) const {
    if (kind == TableKind::scalar) {
      for (std::size_t i = 0; i < codes.size(); ++i) visit(i, double{values[codes[i]]});
      return;
    }
    for (std::size_t i = 0; i + 1 < codes.size(); i += 2) {
      const std::size_t pair = 2 * (codes[i] + (std::size_t{codes[i + 1]} << bits));
      visit(i, double{values[pair]});
      visit(i + 1, double{values[pair + 1]});
    }
  }
};

}  // namespace lutsmith::quant
