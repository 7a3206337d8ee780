#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

#include "expect_error.h"
#include "lutsmith/quantization.h"

namespace lutsmith {
namespace {

/// Mean squared error of the standard normal distribution, by the trapezoidal rule in steps of 1/2000.
double normal_error(const std::vector<float>& levels) {
  constexpr int kSteps = 2000;
  double sum = 0;
  for (int i = -9 * kSteps; i <= 9 * kSteps; ++i) {
    const double x = static_cast<double>(i) / kSteps;
    double nearest = 1e9;
    for (const float level : levels) nearest = std::min(nearest, std::fabs(x - level));
    sum += nearest * nearest * std::exp(-x * x / 2) / std::sqrt(2 * std::numbers::pi) / kSteps;
  }
  return sum;
}

TEST(LloydMaxTable, LevelsAreThoseThatMaxPublished) {
  const std::vector<std::vector<float>> published{
      {.7980F},
      {.4528F, 1.510F},
      {.2451F, .7560F, 1.344F, 2.152F},
      {.1284F, .3881F, .6568F, .9424F, 1.256F, 1.618F, 2.069F, 2.733F}};
  for (int bits = 1; bits <= 4; ++bits) {
    const auto table = lloyd_max_table(bits);
    ASSERT_TRUE(table);
    const std::vector<float>& positive = published[static_cast<std::size_t>(bits - 1)];
    ASSERT_EQ(table->values.size(), 2 * positive.size());
    EXPECT_EQ(table->name, "lloyd" + std::to_string(bits));
    for (std::size_t i = 0; i < positive.size(); ++i) {
      EXPECT_NEAR(table->values[positive.size() + i], positive[i], 6e-4F) << bits;
      EXPECT_EQ(table->values[positive.size() - 1 - i], -table->values[positive.size() + i]);
    }
  }
}

TEST(LloydMaxTable, ErrorsAreThoseThatArePublished) {
  for (const auto& [bits, error] : {std::pair{1, .3634}, {2, .1175}, {3, .03455}, {4, .00950}, {5, .00250}}) {
    EXPECT_NEAR(normal_error(lloyd_max_table(bits)->values), error, 6e-3 * error) << bits;
  }
}

TEST(LloydMaxTable, EveryLevelIsTheMeanOfWhatIsNearestToIt) {
  for (int bits = 1; bits <= 8; ++bits) {
    const std::vector<float> levels = lloyd_max_table(bits)->values;
    ASSERT_TRUE(std::ranges::is_sorted(levels, std::ranges::less_equal{})) << bits;
    for (std::size_t i = 0; i < levels.size(); ++i) {
      const double lower = i == 0 ? -9 : (double{levels[i - 1]} + levels[i]) / 2;
      const double upper = i + 1 == levels.size() ? 9 : (double{levels[i]} + levels[i + 1]) / 2;
      double mass = 0;
      double moment = 0;
      constexpr int kSteps = 4000;  // midpoints
      for (int step = 0; step < kSteps; ++step) {
        const double x = lower + (upper - lower) * (step + 0.5) / kSteps;
        mass += std::exp(-x * x / 2);
        moment += x * std::exp(-x * x / 2);
      }
      EXPECT_NEAR(levels[i], moment / mass, 2e-5) << bits << " bits, level " << i;
    }
  }
}

TEST(LloydMaxTable, WidthsBeyondEightBitsAreRefused) {
  expect_error(lloyd_max_table(0), ErrorCode::invalid_argument, "bits", "0");
  expect_error(lloyd_max_table(9), ErrorCode::invalid_argument, "bits", "9");
}

}  // namespace
}  // namespace lutsmith
