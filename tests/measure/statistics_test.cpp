#include "measure/statistics.h"

#include <gtest/gtest.h>

#include <vector>

namespace lutsmith::measure {
namespace {

TEST(Statistics, MedianIsTheMiddleTimeWhateverTheOrder) {
  EXPECT_EQ(summarize(std::vector{5.0, 1.0, 3.0}).median, 3);
  EXPECT_EQ(summarize(std::vector{7.0}).median, 7);
}

TEST(Statistics, MedianOfAnEvenCountIsATimeThatWasMeasured) {
  EXPECT_EQ(summarize(std::vector{4.0, 1.0, 2.0, 3.0}).median, 3);
}

TEST(Statistics, ThereAreNoneOfNoTimes) {
  const Statistics none = summarize({});
  EXPECT_EQ(none.count, 0);
  EXPECT_EQ(none.median, 0);
  EXPECT_EQ(none.outliers, 0);
}

TEST(Statistics, OutliersAreCountedAndMoveNeitherMedianNorSpread) {
  std::vector<double> times(20, 10.0);
  for (std::size_t i = 0; i < times.size(); ++i) times[i] += 0.01 * static_cast<double>(i % 5);
  const Statistics calm = summarize(times);
  EXPECT_EQ(calm.outliers, 0);
  times[3] = 50;
  times[11] = 1;
  const Statistics disturbed = summarize(times);
  EXPECT_EQ(disturbed.outliers, 2);
  EXPECT_NEAR(disturbed.median, calm.median, 0.011);
  EXPECT_LT(disturbed.spread, 0.005);
}

TEST(Statistics, SpreadIsWhatLiesBetweenTheQuartilesRelativeToTheMedian) {
  std::vector<double> times;
  for (int i = 0; i < 100; ++i) times.push_back(100 + i);
  EXPECT_NEAR(summarize(times).spread, 50.0 / 150.0, 0.01);
}

TEST(Statistics, DriftTellsOfAClockThatFallsWhileMeasuring) {
  std::vector<double> slower;
  for (int i = 0; i < 30; ++i) slower.push_back(100 + i);
  EXPECT_NEAR(summarize(slower).drift, 20.0 / 115.0, 0.01);
  const std::vector<double> faster(slower.rbegin(), slower.rend());
  EXPECT_NEAR(summarize(faster).drift, -20.0 / 115.0, 0.01);
  EXPECT_EQ(summarize(std::vector{1.0, 9.0}).drift, 0);
}

}  // namespace
}  // namespace lutsmith::measure
