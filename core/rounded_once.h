#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

namespace lutsmith::core {

/// product + offset, rounded to odd: where double cannot hold the sum, it is the neighbour whose last bit is
/// 1. What is rounded from that to a type of two bits fewer, or more than two, is as if rounded once (Boldo
/// and Melquiond, Emulation of a FMA and correctly rounded sums: proved algorithms using rounding to odd,
/// IEEE Transactions on Computers, 2008).
inline double sum_to_odd(double product, double offset) {
  const double sum = product + offset;
  // What rounding took away, exactly (Knuth's TwoSum); no number where the sum is none.
  const double back = sum - product;
  const double error = (product - (sum - back)) + (offset - back);
  const bool even = (std::bit_cast<std::uint64_t>(sum) & 1) == 0;
  return (error < 0 || error > 0) && even ? std::nextafter(sum, error > 0 ? HUGE_VAL : -HUGE_VAL) : sum;
}

/// A number of that kind as a float, likewise rounded to odd.
inline float float_to_odd(double value) {
  const auto rounded = static_cast<float>(value);
  const bool even = (std::bit_cast<std::uint32_t>(rounded) & 1) == 0;
  if (double{rounded} == value || !even) return rounded;
  return std::nextafter(rounded, double{rounded} < value ? HUGE_VALF : -HUGE_VALF);
}

}  // namespace lutsmith::core
