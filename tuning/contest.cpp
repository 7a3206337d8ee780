#include "tuning/contest.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "core/result.h"

namespace lutsmith::tuning {
namespace {

double quantile(std::vector<double> values, double part) {
  const auto place = static_cast<std::size_t>(part * static_cast<double>(values.size() - 1));
  std::ranges::nth_element(values, values.begin() + static_cast<std::ptrdiff_t>(place));
  return values[place];
}

double median(const std::vector<double>& values) { return quantile(values, 0.5); }

/// The median of every other value; of a single one, that one.
double median_of_every_other(const std::vector<double>& values, std::size_t first) {
  std::vector<double> part;
  for (std::size_t i = std::min(first, values.size() - 1); i < values.size(); i += 2)
    part.push_back(values[i]);
  return median(part);
}

class Contest {
 public:
  Contest(measure::Turns& turns, std::size_t count, const ContestOptions& options)
      : turns_(turns), options_(options), withdrawn_(count, false) {}

  Result<void> run() {
    int rounds = 0;
    while (true) {
      const bool last = rivals().size() <= options_.keep;
      const int all = std::max(options_.final_rounds, options_.heat_rounds);
      const int wanted = last ? std::max(all - rounds, 0) : options_.heat_rounds;
      for (int i = 0; i < wanted; ++i) {
        if (Result<void> done = turns_.round(); !done) return done;
      }
      rounds += wanted;
      if (last) return {};
      withdraw_slower_half();
    }
  }

  std::vector<Standing> standings() const {
    std::vector<Standing> result;
    for (std::size_t i = 0; i < withdrawn_.size(); ++i) {
      const std::vector<double>& times = turns_.times(i);
      std::vector<double> relative;
      for (std::size_t round = 0; round < times.size(); ++round) {
        relative.push_back(times[round] / standard_time(round));
      }
      const measure::Statistics statistics = measure::summarize(times);
      result.push_back({.microseconds = statistics.median,
                        .relative = median(relative),
                        .relative_even = median_of_every_other(relative, 0),
                        .relative_odd = median_of_every_other(relative, 1),
                        .spread = statistics.spread,
                        .rounds = static_cast<int>(times.size()),
                        .withdrawn = withdrawn_[i]});
    }
    return result;
  }

 private:
  /// Those that are still in and are no standards.
  std::vector<std::size_t> rivals() const {
    std::vector<std::size_t> result;
    for (std::size_t i = options_.standards; i < withdrawn_.size(); ++i) {
      if (!withdrawn_[i]) result.push_back(i);
    }
    return result;
  }

  void withdraw_slower_half() {
    std::vector<std::pair<double, std::size_t>> ranked;
    for (const std::size_t i : rivals()) ranked.emplace_back(quantile(turns_.times(i), 0.25), i);
    std::ranges::sort(ranked);
    const std::size_t kept = std::max(options_.keep, (ranked.size() + 1) / 2);
    for (std::size_t i = kept; i < ranked.size(); ++i) {
      turns_.withdraw(ranked[i].second);
      withdrawn_[ranked[i].second] = true;
    }
  }

  double standard_time(std::size_t round) const {
    std::vector<double> times;
    for (std::size_t i = 0; i < options_.standards; ++i) times.push_back(turns_.times(i)[round]);
    return median(times);
  }

  measure::Turns& turns_;
  ContestOptions options_;
  std::vector<bool> withdrawn_;
};

}  // namespace

Result<std::vector<Standing>> contest(measure::Device& device, std::span<const measure::Contender> contenders,
                                      const ContestOptions& options) {
  Result<measure::Turns> turns = measure::Turns::begin(device, contenders);
  if (!turns) return failure(turns);
  Contest contest(*turns, contenders.size(), options);
  if (Result<void> done = contest.run(); !done) return failure(done);
  return contest.standings();
}

double noise(std::span<const Standing> standards) {
  const auto [shortest, longest] = std::ranges::minmax(standards, {}, &Standing::microseconds);
  std::vector<double> spreads;
  for (const Standing& standard : standards) spreads.push_back(standard.spread);
  // Of a normal distribution: the quartiles lie 1.35 standard deviations apart, a median of n has 1.25 /
  // sqrt(n) of them as its standard error, and a difference of two has sqrt(2) of that.
  constexpr double kErrorOfDifference = 1.4142 * 1.2533 / 1.349;
  const double error = kErrorOfDifference * median(spreads) / std::sqrt(standards.front().rounds);
  return std::max(longest.microseconds / shortest.microseconds - 1, 3 * error);
}

}  // namespace lutsmith::tuning
