#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace lutsmith::quant {

/// Finds the entry of a scalar table nearest to a number. Of two equally near values the smaller
/// wins; of equal values, the lowest code.
class NearestValue {
 public:
  /// `values`: 2^bits finite values, value of code c at [c].
  NearestValue(std::span<const float> values, int bits);

  /// codes[i] = code of the value nearest to weights[i] * inverse_scale, whatever its importance.
  void encode(std::span<const float> weights, double inverse_scale, std::span<std::uint8_t> codes,
              std::span<const float> importance = {}) const;

 private:
  int half_;                         // 2^(bits - 1), the first step of the search
  std::vector<double> boundaries_;   // between sorted neighbours; then infinities, up to 2^bits - 1
  std::vector<std::uint8_t> codes_;  // of the sorted values
};

/// Finds the entry of a pair table nearest (Euclidean) to two neighbouring numbers. Of equally near
/// pairs the lowest code wins.
class NearestPair {
 public:
  /// `values`: 2 * 2^(2 * bits) finite values, pair of code c at [2c], [2c + 1].
  NearestPair(std::span<const float> values, int bits);

  /// Two codes of `bits` each per pair of weights; `weights` has even length. With `importance`, one for each
  /// weight, a square counts so many times in the distance, unless both are 0.
  void encode(std::span<const float> weights, double inverse_scale, std::span<std::uint8_t> codes,
              std::span<const float> importance = {}) const;

 private:
  struct Entry {
    double first;
    double second;
    int code;
  };
  struct Point {
    double first;
    double second;
    double first_counts = 1;
    double second_counts = 1;
  };
  [[nodiscard]] int nearest(const Point& point) const;

  int bits_;
  std::vector<Entry> entries_;  // sorted by first
};

}  // namespace lutsmith::quant
