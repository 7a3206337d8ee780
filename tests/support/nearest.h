#pragma once

#include <cmath>
#include <cstdint>

#include "lutsmith/float16.h"

namespace lutsmith::test {

/// The number of the type that is nearest, the even one where two are: found by comparing neighbours.
inline std::uint16_t nearest(double exact, DataType dtype) {
  const std::uint16_t near = to_bits(static_cast<float>(exact), dtype);
  std::uint16_t best = near;
  const auto distance = [&](std::uint16_t bits) { return std::fabs(double{from_bits(bits, dtype)} - exact); };
  for (const int step : {-1, 1}) {
    const auto other = static_cast<std::uint16_t>(near + step);
    if (distance(other) < distance(best) || (distance(other) == distance(best) && other % 2 == 0))
      best = other;
  }
  return best;
}

}  // namespace lutsmith::test
