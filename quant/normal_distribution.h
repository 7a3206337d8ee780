#pragma once

#include <cmath>
#include <numbers>

namespace lutsmith::quant {

inline double normal_density(double x) { return std::exp(-x * x / 2) / std::sqrt(2 * std::numbers::pi); }
inline double normal_distribution(double x) { return std::erfc(-x / std::numbers::sqrt2) / 2; }

/// The x with normal_distribution(x) = p, for 0 < p < 1. Newton's method from 0: left of 0 the
/// distribution is convex, so no step from there can pass the solution; the right side is its mirror.
inline double normal_quantile(double p) {
  if (p > 0.5) return -normal_quantile(1 - p);
  double x = 0;
  for (int step = 0; step < 100; ++step) {
    const double next = x - (normal_distribution(x) - p) / normal_density(x);
    if (!(next < x)) break;  // rounding ends the monotone descent
    x = next;
  }
  return x;
}

}  // namespace lutsmith::quant
