#include "measure/timing.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "expect_error.h"
#include "measure/rotation.h"
#include "must.h"
#include "simulated_device.h"

namespace lutsmith::measure {
namespace {

using test::must;
using test::SimulatedDevice;
using test::SimulatedTimes;
using testing::Each;
using testing::ElementsAre;

Contender lasting(SimulatedDevice& device, double microseconds, int launches = 40) {
  return must(make_contender(device, "kernel of so many microseconds", launches,
                             [&](int) { return device.enqueue(microseconds); }));
}

std::vector<Contender> each_lasting(SimulatedDevice& device, const std::vector<double>& microseconds) {
  std::vector<Contender> contenders;
  for (const double each : microseconds) contenders.push_back(lasting(device, each));
  return contenders;
}

TEST(Timing, TimePerLaunchIsThatOfTheKernel) {
  SimulatedDevice device;
  const std::vector<Contender> contenders = each_lasting(device, {2.5, 40});
  const std::vector<Statistics> times = must(measure(device, contenders));
  ASSERT_EQ(times.size(), 2U);
  EXPECT_NEAR(times[0].median, 2.5, 1e-9);
  EXPECT_NEAR(times[1].median, 40, 1e-9);
}

TEST(Timing, NothingIsMeasuredOfNoContenders) {
  SimulatedDevice device;
  EXPECT_TRUE(must(measure(device, {})).empty());
  EXPECT_EQ(device.calls(), 0);
}

TEST(Timing, NoiseAndDisturbancesDoNotMoveTheMedian) {
  SimulatedDevice device({.noise = 0.01, .disturbed_every = 7});
  const std::vector<Contender> contenders = each_lasting(device, {5, 8});
  const std::vector<Statistics> times = must(measure(device, contenders, {.min_rounds = 25}));
  EXPECT_NEAR(times[0].median, 5, 0.05);
  EXPECT_NEAR(times[1].median, 8, 0.08);
  EXPECT_GT(times[0].outliers + times[1].outliers, 0);
}

TEST(Timing, FirstReplaysAreLeftOut) {
  SimulatedDevice device({.cold_replays = 2});
  const std::vector<Contender> contenders = each_lasting(device, {5, 8});
  const std::vector<Statistics> times = must(measure(device, contenders));
  EXPECT_NEAR(times[0].median, 5, 1e-9);
  EXPECT_NEAR(times[0].spread, 0, 1e-9);
}

TEST(Timing, NoTimedReplayWaitsForItsLaunch) {
  SimulatedDevice device({.launch_microseconds = 500});
  const std::vector<Contender> contenders = each_lasting(device, {5, 8});
  const std::vector<Statistics> times = must(measure(device, contenders));
  EXPECT_NEAR(times[0].median, 5, 1e-9);
  EXPECT_NEAR(times[1].median, 8, 1e-9);
}

TEST(Timing, ContendersTakeTurnsInEveryRound) {
  SimulatedDevice device;
  const std::vector<Contender> contenders = each_lasting(device, {5, 8, 11});
  must(measure(device, contenders, {.min_rounds = 9, .max_rounds = 9}));
  const std::vector<int>& replays = device.replays();
  ASSERT_EQ(replays.size(), 4U * (2 + 9));
  for (std::size_t round = 0; round < replays.size(); round += 4) {
    EXPECT_THAT(std::vector(replays.begin() + static_cast<std::ptrdiff_t>(round),
                            replays.begin() + static_cast<std::ptrdiff_t>(round) + 4),
                ElementsAre(2, 0, 1, 2));
  }
}

TEST(Timing, ClockThatDriftsCancelsInRatios) {
  // A fifth slower every 5 ms: measured one after the other, the second would look slower by far.
  SimulatedDevice device({.slowness = [](double now) { return 1 + now / 25000; }});
  const std::vector<Contender> contenders = each_lasting(device, {5, 10});
  const std::vector<Statistics> times = must(measure(device, contenders));
  EXPECT_NEAR(times[1].median / times[0].median, 2, 0.04);
  EXPECT_GT(times[0].drift, 0.1);

  SimulatedDevice apart({.slowness = [](double now) { return 1 + now / 25000; }});
  const std::vector<Contender> same = each_lasting(apart, {5, 10});
  const double first = must(measure(apart, std::span(same).first(1)))[0].median;
  const double second = must(measure(apart, std::span(same).last(1)))[0].median;
  EXPECT_GT(second / first, 2.4) << "the drift is too small for this test to tell anything";
}

TEST(Timing, LongContendersGetTheFewestRoundsAndShortOnesTheMost) {
  SimulatedDevice device;
  const std::vector<Contender> contenders = each_lasting(device, {1, 500});
  EXPECT_EQ(must(measure(device, std::span(contenders).first(1)))[0].count, 25);
  EXPECT_EQ(must(measure(device, contenders))[0].count, 9);
  EXPECT_EQ(must(measure(device, std::span(contenders).last(1), {.milliseconds_each = 300}))[0].count, 15);
}

TEST(Timing, RotationKeepsWeightsOutOfTheCache) {
  SimulatedDevice device({.memory_bytes_per_microsecond = 1000, .cache_bytes_per_microsecond = 8000});
  const std::vector<std::byte> weights(100 * 1000);
  RotatingPool pool(device);
  must(pool.load(weights));
  const auto reads = [&](auto address) {
    return must(make_contender(device, "reads", pool.rotation().launches, [&](int launch) {
      return device.enqueue_read(address(launch), weights.size());
    }));
  };
  std::vector<Contender> contenders;
  contenders.push_back(reads([&](int launch) { return pool.copy_for(launch); }));
  contenders.push_back(reads([&](int) { return weights.data(); }));
  const std::vector<Statistics> times = must(measure(device, contenders));
  EXPECT_NEAR(times[0].median, 1 + 100, 1e-9);
  EXPECT_LT(times[1].median, 1 + 100 / 4.0) << "the cache of the simulated device has no effect";
}

TEST(Timing, TooShortReplaysAreRepeatedUntilTheClockCanTell) {
  SimulatedDevice device({.tick_microseconds = 0.5});
  std::vector<Contender> contenders;
  contenders.push_back(lasting(device, 0.3, 1));
  contenders.push_back(lasting(device, 0.7, 2));
  contenders.push_back(lasting(device, 50, 1));
  const std::vector<Statistics> times = must(measure(device, contenders));
  EXPECT_NEAR(times[0].median, 0.3, 0.3 * 0.03);
  EXPECT_NEAR(times[1].median, 0.7, 0.7 * 0.03);
  EXPECT_NEAR(times[2].median, 50, 0.5);
}

TEST(Timing, LongReplaysAreNotRepeated) {
  SimulatedDevice device({.tick_microseconds = 0.5});
  const std::vector<Contender> contenders = each_lasting(device, {1});
  must(measure(device, contenders, {.min_rounds = 9, .max_rounds = 9}));
  EXPECT_EQ(device.replays().size(), 2U * (2 + 9));
}

TEST(Timing, ContenderWithoutAnyTimeIsAnErrorThatNamesIt) {
  SimulatedDevice device;
  std::vector<Contender> contenders;
  contenders.push_back(must(make_contender(device, "the empty one", 1, [](int) { return Result<void>(); })));
  expect_error(measure(device, contenders), ErrorCode::driver_error, "the empty one", "record more launches");
}

TEST(Timing, LaunchesAreRecordedInOrder) {
  SimulatedDevice device;
  std::vector<int> launches;
  const Contender contender = must(make_contender(device, "kernel", 5, [&](int launch) {
    launches.push_back(launch);
    return device.enqueue(1);
  }));
  EXPECT_EQ(contender.launches, 5);
  EXPECT_THAT(launches, ElementsAre(0, 1, 2, 3, 4));
  EXPECT_TRUE(device.replays().empty());
}

TEST(Turns, WithdrawnContenderIsReplayedNoMoreAndKeepsItsTimes) {
  SimulatedDevice device;
  const std::vector<Contender> contenders = each_lasting(device, {5, 8, 11});
  Turns turns = must(Turns::begin(device, contenders));
  must(turns.round());
  must(turns.round());
  turns.withdraw(2);
  const std::size_t before = device.replays().size();
  must(turns.round());
  const std::vector<int> after(device.replays().begin() + static_cast<std::ptrdiff_t>(before),
                               device.replays().end());
  EXPECT_THAT(after, ElementsAre(1, 0, 1));
  EXPECT_EQ(turns.times(0).size(), 3U);
  EXPECT_EQ(turns.times(2).size(), 2U);
  EXPECT_THAT(turns.times(2), Each(testing::DoubleNear(11, 1e-9)));
}

TEST(Turns, RoundOfNobodyDoesNothing) {
  SimulatedDevice device;
  const std::vector<Contender> contenders = each_lasting(device, {5});
  Turns turns = must(Turns::begin(device, contenders));
  turns.withdraw(0);
  const int before = device.calls();
  must(turns.round());
  EXPECT_EQ(device.calls(), before);
}

}  // namespace
}  // namespace lutsmith::measure
