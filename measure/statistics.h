#pragma once

#include <span>

namespace lutsmith::measure {

/// Times of one thing, summed up. A rotation or a clock that goes wrong shows in `spread` and `drift`; the
/// median alone would hide it.
struct Statistics {
  int count = 0;
  /// The middle one in order; of an even count the upper of the two in the middle, so that it is always a
  /// time that was measured.
  double median = 0;
  double spread = 0;  ///< between the quartiles, as a part of the median
  /// Times further from the quartiles than one and a half times what lies between these (Tukey's fences).
  int outliers = 0;
  /// How much longer the last third of the times is than the first, as a part of the median: a clock that
  /// falls while measuring gives a positive one. 0 of fewer than three.
  double drift = 0;
};

/// `times` in the order in which they were taken; all zero where there are none.
Statistics summarize(std::span<const double> times);

}  // namespace lutsmith::measure
