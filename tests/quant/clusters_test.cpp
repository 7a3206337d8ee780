#include "quant/clusters.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

namespace lutsmith::quant {
namespace {

struct Number {
  double value;
  double mass;
};

std::vector<Bin> bins_of(const std::vector<Number>& numbers) {
  std::vector<Bin> bins;
  bins.reserve(numbers.size());
  for (const Number& number : numbers) bins.push_back({number.mass, number.mass * number.value});
  return bins;
}

double error_of(const std::vector<Number>& numbers, const std::vector<double>& means) {
  double sum = 0;
  for (const Number& number : numbers) {
    double nearest = std::numeric_limits<double>::infinity();
    for (const double mean : means) nearest = std::min(nearest, std::fabs(number.value - mean));
    sum += number.mass * nearest * nearest;
  }
  return sum;
}

/// The least error of all ways to cut the numbers from `first` on into so many clusters.
double least_error(const std::vector<Number>& numbers, std::size_t first, std::size_t clusters) {
  if (first == numbers.size()) return 0;
  if (clusters == 0) return std::numeric_limits<double>::infinity();
  double least = std::numeric_limits<double>::infinity();
  for (std::size_t end = first + 1; end <= numbers.size(); ++end) {
    double mass = 0;
    double moment = 0;
    for (std::size_t i = first; i < end; ++i) {
      mass += numbers[i].mass;
      moment += numbers[i].mass * numbers[i].value;
    }
    double error = 0;
    for (std::size_t i = first; i < end; ++i)
      error += numbers[i].mass * std::pow(numbers[i].value - moment / mass, 2);
    least = std::min(least, error + least_error(numbers, end, clusters - 1));
  }
  return least;
}

TEST(Clusters, NoOtherPartitionIsBetter) {
  std::mt19937 random(1);
  std::normal_distribution<double> normal;
  std::lognormal_distribution<double> masses(0, 2);
  for (int trial = 0; trial < 40; ++trial) {
    std::vector<Number> numbers(12);
    for (Number& number : numbers) number = {normal(random), masses(random)};
    std::ranges::sort(numbers, {}, &Number::value);
    for (const std::size_t clusters : {1U, 2U, 3U, 5U, 8U}) {
      const std::vector<double> means = cluster_means(bins_of(numbers), clusters);
      ASSERT_EQ(means.size(), clusters);
      EXPECT_TRUE(std::ranges::is_sorted(means));
      const double least = least_error(numbers, 0, clusters);
      EXPECT_NEAR(error_of(numbers, means), least, 1e-9 * (1 + least)) << clusters;
    }
  }
}

TEST(Clusters, NumbersThatAreFewerThanClustersAreAllKept) {
  const std::vector<Bin> bins{{0, 0}, {2, -6}, {0, 0}, {1, 4}, {0, 0}};
  EXPECT_EQ(cluster_means(bins, 4), (std::vector<double>{-3, 4, 4, 4}));
}

}  // namespace
}  // namespace lutsmith::quant
