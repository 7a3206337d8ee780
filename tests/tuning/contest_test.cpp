#include "tuning/contest.h"

#include <gtest/gtest.h>

#include <vector>

#include "must.h"
#include "simulated_device.h"

namespace lutsmith::tuning {
namespace {

using test::must;
using test::SimulatedDevice;
using test::SimulatedTimes;

std::vector<measure::Contender> contenders(SimulatedDevice& device, const std::vector<double>& microseconds) {
  std::vector<measure::Contender> result;
  for (const double each : microseconds) {
    result.push_back(
        must(measure::make_contender(device, "contender", 20, [&](int) { return device.enqueue(each); })));
  }
  return result;
}

TEST(Contest, RanksByTimeAndWithdrawsTheSlowerHalves) {
  SimulatedDevice device;
  std::vector<double> costs{10};
  for (int i = 0; i < 16; ++i) costs.push_back(20 - i);
  const auto entered = contenders(device, costs);
  const auto standings = must(contest(device, entered, {.standards = 1, .keep = 2}));
  ASSERT_EQ(standings.size(), costs.size());
  for (std::size_t i = 1; i < costs.size(); ++i) EXPECT_EQ(standings[i].withdrawn, costs[i] > 6) << i;
  EXPECT_NEAR(standings[16].relative, 0.5, 1e-9);
  EXPECT_NEAR(standings[16].microseconds, 5, 1e-9);
  EXPECT_EQ(standings[1].rounds, 4);    // first half: after one heat
  EXPECT_EQ(standings[16].rounds, 12);  // to the end
  EXPECT_EQ(standings[0].rounds, 12);
}

TEST(Contest, NeverWithdrawsTheStandards) {
  SimulatedDevice device;
  const auto entered = contenders(device, {50, 50, 1, 2, 3, 4});
  const auto standings = must(contest(device, entered, {.standards = 2, .keep = 1}));
  EXPECT_FALSE(standings[0].withdrawn);
  EXPECT_FALSE(standings[1].withdrawn);
  EXPECT_FALSE(standings[2].withdrawn);
  EXPECT_TRUE(standings[3].withdrawn);
}

TEST(Contest, ClockThatFallsToHalfDoesNotChangeTheRatios) {
  SimulatedTimes times;
  times.slowness = [](double now) { return 1 + now / 20'000; };
  SimulatedDevice device(times);
  const auto entered = contenders(device, {10, 10, 8, 9, 11, 12});
  const auto standings = must(contest(device, entered, {.standards = 2, .keep = 4, .final_rounds = 24}));
  EXPECT_NEAR(standings[2].relative, 0.8, 0.04);
  EXPECT_NEAR(standings[3].relative, 0.9, 0.04);
  EXPECT_GT(standings[0].spread, 0.05);
}

TEST(Contest, WithoutRivalsTimesTheStandards) {
  SimulatedDevice device;
  const auto entered = contenders(device, {10, 10, 10});
  const auto standings = must(contest(device, entered, {.standards = 3, .keep = 4, .final_rounds = 5}));
  EXPECT_EQ(standings[2].rounds, 5);
  EXPECT_NEAR(noise(standings), 0, 1e-9);
}

TEST(Contest, FaultOfTheDeviceIsToldWhereverItHappens) {
  SimulatedDevice counted;
  static_cast<void>(must(contest(counted, contenders(counted, {1, 2, 3}), {})));
  for (int call = 0; call < counted.calls(); ++call) {
    SimulatedDevice device;
    const auto entered = contenders(device, {1, 2, 3});
    const int made = device.calls();
    if (call < made) continue;
    device.fail_call(call);
    EXPECT_FALSE(contest(device, entered, {})) << call;
  }
}

TEST(Noise, IsWhatRepeatsDifferBy) {
  std::vector<Standing> standings(3);
  for (Standing& each : standings) each.rounds = 100;
  standings[0].microseconds = 10;
  standings[1].microseconds = 10.2;
  standings[2].microseconds = 10.1;
  EXPECT_NEAR(noise(standings), 0.02, 1e-9);
}

TEST(Noise, IsMoreWhereTimesAreSpread) {
  std::vector<Standing> standings(3);
  for (Standing& each : standings) each = {.microseconds = 10, .spread = 0.1, .rounds = 100};
  EXPECT_NEAR(noise(standings), 0.0394, 1e-3);
}

}  // namespace
}  // namespace lutsmith::tuning
