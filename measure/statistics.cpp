#include "measure/statistics.h"

#include <algorithm>
#include <cstddef>
#include <vector>

namespace lutsmith::measure {
namespace {

constexpr double kTukey = 1.5;

double median_of(std::span<const double> times) {
  std::vector<double> values(times.begin(), times.end());
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::ranges::nth_element(values, middle);
  return *middle;
}

}  // namespace

Statistics summarize(std::span<const double> times) {
  Statistics result;
  if (times.empty()) return result;
  result.count = static_cast<int>(times.size());
  result.median = median_of(times);

  std::vector<double> sorted(times.begin(), times.end());
  std::ranges::sort(sorted);
  const double lower = sorted[sorted.size() / 4];
  const double upper = sorted[sorted.size() * 3 / 4];
  result.spread = (upper - lower) / result.median;
  const double fence = kTukey * (upper - lower);
  result.outliers = static_cast<int>(std::ranges::count_if(
      sorted, [&](double time) { return time < lower - fence || time > upper + fence; }));

  if (const std::size_t third = times.size() / 3; third > 0) {
    result.drift = (median_of(times.last(third)) - median_of(times.first(third))) / result.median;
  }
  return result;
}

}  // namespace lutsmith::measure
