#include "quant/nearest_code.h"

#include <algorithm>
#include <cstddef>
#include <limits>
#include <numeric>
#include <ranges>

namespace lutsmith::quant {

NearestValue::NearestValue(std::span<const float> values, int bits) : half_(1 << (bits - 1)) {
  std::vector<int> order(values.size());
  std::iota(order.begin(), order.end(), 0);
  const auto value_of = [&](int code) { return values[static_cast<std::size_t>(code)]; };
  std::ranges::stable_sort(order, {}, value_of);  // stable: of equal values the lowest code comes first
  const auto repeated = std::ranges::unique(order, {}, value_of);
  order.erase(repeated.begin(), repeated.end());

  for (const int code : order) codes_.push_back(static_cast<std::uint8_t>(code));
  for (std::size_t i = 1; i < order.size(); ++i) {
    boundaries_.push_back((double{value_of(order[i - 1])} + value_of(order[i])) / 2);
  }
  boundaries_.resize(values.size() - 1, std::numeric_limits<double>::infinity());
}

void NearestValue::encode(std::span<const float> weights, double inverse_scale, std::span<std::uint8_t> codes,
                          std::span<const float> /*importance*/) const {
  for (std::size_t i = 0; i < weights.size(); ++i) {
    const double x = weights[i] * inverse_scale;
    // Counts the boundaries below x. Their number is 2^bits - 1, so every search takes the same steps
    // and none is a branch on the data.
    int below = 0;
    for (int step = half_; step > 0; step /= 2) {
      below += boundaries_[static_cast<std::size_t>(below + step - 1)] < x ? step : 0;
    }
    codes[i] = codes_[static_cast<std::size_t>(below)];
  }
}

NearestPair::NearestPair(std::span<const float> values, int bits) : bits_(bits) {
  for (std::size_t i = 0; i + 1 < values.size(); i += 2) {
    entries_.push_back({values[i], values[i + 1], static_cast<int>(i / 2)});
  }
  std::ranges::stable_sort(entries_, {}, &Entry::first);
}

int NearestPair::nearest(const Point& point) const {
  double best = std::numeric_limits<double>::infinity();
  int code = std::numeric_limits<int>::max();
  // Returns whether entries further away along `first` can still be as near.
  const auto visit = [&](const Entry& entry) {
    const double across = entry.first - point.first;
    const double distance_across = point.first_counts * (across * across);
    if (distance_across > best) return false;
    const double along = entry.second - point.second;
    const double distance = distance_across + point.second_counts * (along * along);
    if (distance < best || (distance == best && entry.code < code)) {
      best = distance;
      code = entry.code;
    }
    return true;
  };
  const auto start = std::ranges::lower_bound(entries_, point.first, {}, &Entry::first);
  for (const Entry& entry : std::ranges::subrange(start, entries_.end())) {
    if (!visit(entry)) break;
  }
  for (const Entry& entry : std::ranges::subrange(entries_.begin(), start) | std::views::reverse) {
    if (!visit(entry)) break;
  }
  return code;
}

void NearestPair::encode(std::span<const float> weights, double inverse_scale, std::span<std::uint8_t> codes,
                         std::span<const float> importance) const {
  const int mask = (1 << bits_) - 1;
  for (std::size_t i = 0; i + 1 < weights.size(); i += 2) {
    Point point{weights[i] * inverse_scale, weights[i + 1] * inverse_scale};
    if (!importance.empty() && importance[i] + importance[i + 1] > 0) {
      point.first_counts = importance[i];
      point.second_counts = importance[i + 1];
    }
    const int code = nearest(point);
    codes[i] = static_cast<std::uint8_t>(code & mask);
    codes[i + 1] = static_cast<std::uint8_t>(code >> bits_);
  }
}

}  // namespace lutsmith::quant
