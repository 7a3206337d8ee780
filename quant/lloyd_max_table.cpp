#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

#include "core/format_fields.h"
#include "core/result.h"
#include "lutsmith/quantization.h"
#include "quant/normal_distribution.h"

namespace lutsmith {
namespace {

using quant::normal_density;
using quant::normal_distribution;

/// The normal distribution between two bounds.
struct Interval {
  Interval(double lower, double upper) {
    // Where both are positive, by the tail above: there the distribution itself is 1 less next to nothing.
    const double probability = lower > 0 ? normal_distribution(-lower) - normal_distribution(-upper)
                                         : normal_distribution(upper) - normal_distribution(lower);
    mean = (normal_density(lower) - normal_density(upper)) / probability;
    by_lower = std::isfinite(lower) ? normal_density(lower) * (mean - lower) / probability : 0;
    by_upper = std::isfinite(upper) ? normal_density(upper) * (upper - mean) / probability : 0;
  }
  double mean;
  double by_lower;  ///< derivative of the mean
  double by_upper;
};

/// One step of Newton's method towards levels that each are the mean of what lies nearest to them: levels -
/// means = 0, whose matrix of derivatives is tridiagonal. Returns the largest change.
double improve(std::vector<double>& levels) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const std::size_t count = levels.size();
  std::vector<double> above(count);  // of the eliminated equations
  std::vector<double> change(count);
  for (std::size_t i = 0; i < count; ++i) {
    const Interval interval(i == 0 ? -kInfinity : (levels[i - 1] + levels[i]) / 2,
                            i + 1 == count ? kInfinity : (levels[i] + levels[i + 1]) / 2);
    const double below = -interval.by_lower / 2;
    const double diagonal =
        1 - (interval.by_lower + interval.by_upper) / 2 - (i == 0 ? 0 : below * above[i - 1]);
    above[i] = -interval.by_upper / 2 / diagonal;
    change[i] = (interval.mean - levels[i] - (i == 0 ? 0 : below * change[i - 1])) / diagonal;
  }
  double largest = 0;
  for (std::size_t i = count; i-- > 0;) {
    if (i + 1 < count) change[i] -= above[i] * change[i + 1];
    levels[i] += change[i];
    largest = std::max(largest, std::fabs(change[i]));
  }
  return largest;
}

}  // namespace

Result<Table> lloyd_max_table(int bits) {
  if (auto checked = validate_bits(bits); !checked) return failure(checked);
  const std::size_t count = std::size_t{1} << bits;
  std::vector<double> levels(count);
  // Many levels are best as dense as the third root of the density (Panter and Dite, 1951): as quantiles of a
  // normal distribution of variance 3. That is near enough for Newton's method.
  for (std::size_t i = 0; i < count; ++i) {
    levels[i] =
        std::sqrt(3.0) * quant::normal_quantile((static_cast<double>(i) + 0.5) / static_cast<double>(count));
  }
  constexpr double kSolved = 1e-12;
  constexpr int kMostSteps = 100;
  for (int step = 0; step < kMostSteps && improve(levels) > kSolved; ++step) continue;
  Table table{fmt::format("lloyd{}", bits), bits, TableKind::scalar, {}};
  for (std::size_t i = 0; i < count; ++i) {
    table.values.push_back(static_cast<float>((levels[i] - levels[count - 1 - i]) / 2));  // exactly symmetric
  }
  return table;
}

}  // namespace lutsmith
