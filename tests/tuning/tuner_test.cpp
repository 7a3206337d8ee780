#include "tuning/tuner.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "choices/document.h"
#include "codegen/families.h"
#include "expect_error.h"
#include "lutsmith/codegen.h"
#include "must.h"
#include "simulated_workbench.h"

namespace lutsmith::tuning {
namespace {

using test::must;
using test::SimulatedTimes;
using test::SimulatedWorkbench;

const KernelSpec kSpec{.format = {.bits = 4, .group = 128, .n = 4096, .k = 4096},
                       .m = 1,
                       .target = must(Target::parse("sm_90a"))};

constexpr int kSimulatedMultiprocessors = 100;

/// A number between 0 and 1 that is the choice's own.
double fate(const std::string& text, unsigned seed) {
  return static_cast<double>(std::hash<std::string>()(text + std::to_string(seed)) % 10'007) / 10'007;
}

/// Costs that differ by up to 30 % from schedule to schedule, and by up to 20 % with the partitions.
SimulatedWorkbench::Cost random_costs(unsigned seed) {
  return [seed](const Choice& choice) {
    return 5 * (1 + 0.3 * fate(describe(choice.schedule), seed)) *
           (1 + 0.2 * fate(std::to_string(choice.partitions), seed));
  };
}

SimulatedTimes noisy(double noise, unsigned seed = 1) {
  SimulatedTimes times;
  times.noise = noise;
  times.seed = seed;
  return times;
}

/// A GPU that loses a tenth of its clock while it is measured, and that somebody else uses now and then.
SimulatedTimes disturbed(unsigned seed) {
  SimulatedTimes times = noisy(0.004, seed);
  times.slowness = [](double now) {
    const double drift = 1 + 0.1 * (1 - std::exp(-now / 50'000));
    return std::fmod(now, 30'000) < 4'000 ? 3 * drift : drift;  // microseconds
  };
  return times;
}

/// The lowest cost of all pairs that the tuner could have measured.
double lowest_cost(const SimulatedWorkbench& bench) {
  double lowest = HUGE_VAL;
  for (const Choice& choice : bench.checked()) lowest = std::min(lowest, bench.cost(choice));
  return lowest;
}

Choice standard_of(const choices::Entry& entry) {
  return {entry.schedules[entry.standard.schedule], entry.standard.partitions};
}

TEST(Tuner, FindsTheFastestPairOnAStillGpu) {
  for (unsigned seed = 0; seed < 40; ++seed) {
    SimulatedWorkbench bench(SimulatedTimes{}, random_costs(seed));
    const choices::Entry entry = must(Tuner(bench).tune(kSpec));
    EXPECT_LE(bench.cost(entry.chosen()), lowest_cost(bench) * 1.004) << seed;
    EXPECT_NEAR(entry.choice.microseconds, bench.cost(entry.chosen()), 0.01) << seed;
    EXPECT_NEAR(entry.standard.microseconds, bench.cost(standard_of(entry)), 0.01) << seed;
    EXPECT_EQ(entry.conditions.quality, choices::Quality::good) << seed;
  }
}

TEST(Tuner, FindsAFastPairOnADisturbedOne) {
  for (unsigned seed = 0; seed < 40; ++seed) {
    SimulatedWorkbench bench(disturbed(seed), random_costs(seed));
    const choices::Entry entry = must(Tuner(bench).tune(kSpec));
    EXPECT_LE(bench.cost(entry.chosen()), lowest_cost(bench) * 1.03) << seed;
  }
}

TEST(Tuner, NeverTakesALoserBecauseOfABurst) {
  for (unsigned seed = 0; seed < 200; ++seed) {
    SimulatedTimes times = disturbed(seed);
    times.slowness = [seed, drifting = times.slowness](double now) {
      // Bursts of any length that begin anywhere.
      const bool burst = fate(std::to_string(std::floor(now / 2'000)), seed) < 0.2;
      return drifting(now) * (burst ? 4 : 1);
    };
    SimulatedWorkbench bench(times, random_costs(seed));
    const choices::Entry entry = must(Tuner(bench).tune(kSpec));
    EXPECT_LE(bench.cost(entry.chosen()), bench.cost(standard_of(entry))) << seed;
  }
}

/// In how many of so many tunings the default stays, if nothing differs from it by more than 0.1 %.
unsigned defaults_kept(unsigned tunings, double noise) {
  unsigned kept = 0;
  for (unsigned seed = 0; seed < tunings; ++seed) {
    SimulatedWorkbench bench(noisy(noise, seed), [seed](const Choice& choice) {
      return 5 * (1 + 0.001 * fate(describe(choice), seed));
    });
    const choices::Entry entry = must(Tuner(bench).tune(kSpec));
    if (entry.chosen() != standard_of(entry)) continue;
    EXPECT_EQ(entry.choice.microseconds, entry.standard.microseconds) << seed;
    ++kept;
  }
  return kept;
}

TEST(Tuner, DifferencesWithinTheNoiseKeepTheDefault) {
  EXPECT_EQ(defaults_kept(20, 0.0005), 20U);
  // Some 400 finalists, and one of a thousand is off by more than three standard errors: which, is chance.
  EXPECT_GE(defaults_kept(100, 0.01), 99U);
}

TEST(Tuner, EqualPairsAreResolvedByTheModelsOrder) {
  const std::vector<Schedule> ranked = must(schedules(kSpec));
  for (unsigned seed = 0; seed < 20; ++seed) {
    // Only with the plain number of partitions: of many equal pairs, chance would pick the finalists.
    SimulatedWorkbench bench(noisy(0.0005, seed), [&](const Choice& choice) {
      const bool one_of_two = choice.schedule == ranked[3] || choice.schedule == ranked[5];
      const LaunchRecipe recipe = launch_recipe(kSpec, choice.schedule);
      const int plain = must(partition(recipe, kSpec.m, kSimulatedMultiprocessors)).partitions;
      return one_of_two && choice.partitions == plain ? 4.0 : 5.0;
    });
    const choices::Entry entry = must(Tuner(bench).tune(kSpec));
    EXPECT_EQ(entry.chosen().schedule, ranked[3]) << seed;
  }
}

TEST(Tuner, SameMeasurementsGiveTheSameEntry) {
  const auto document = [](unsigned seed) {
    SimulatedWorkbench bench(disturbed(seed), random_costs(seed));
    choices::Document result(bench.gpu());
    result.put(must(Tuner(bench).tune(kSpec)));
    return write_document(result);
  };
  for (unsigned seed = 0; seed < 10; ++seed) EXPECT_EQ(document(seed), document(seed));
}

TEST(Tuner, WrongResultsAreNeverTimed) {
  const std::vector<Schedule> ranked = must(schedules(kSpec));
  SimulatedWorkbench bench(SimulatedTimes{}, [&](const Choice& choice) {
    return choice.schedule == ranked[1] ? 1.0 : 5.0;  // fast, and wrong
  });
  bench.check_result = [&](const Choice& choice) -> Result<void> {
    if (choice.schedule != ranked[1]) return {};
    return std::unexpected(Error{ErrorCode::driver_error, "wrong by 3 %", ""});
  };
  const choices::Entry entry = must(Tuner(bench).tune(kSpec));
  EXPECT_NE(entry.chosen().schedule, ranked[1]);
  for (const Choice& timed : bench.timed()) EXPECT_NE(timed.schedule, ranked[1]);
  ASSERT_EQ(entry.failures.size(), 1U);
  EXPECT_EQ(entry.failures[0].reason, "wrong by 3 %");
}

TEST(Tuner, EveryPairIsCheckedBeforeItIsTimed) {
  SimulatedWorkbench bench(SimulatedTimes{}, random_costs(1));
  must(Tuner(bench).tune(kSpec));
  for (const Choice& timed : bench.timed()) {
    EXPECT_NE(std::ranges::find(bench.checked(), timed), bench.checked().end()) << describe(timed);
  }
}

TEST(Tuner, StandardIsTheFirstThatCanBeMade) {
  const std::vector<Schedule> ranked = must(schedules(kSpec));
  SimulatedWorkbench bench(SimulatedTimes{}, [](const Choice&) { return 5.0; });
  bench.make_result = [&](const Schedule& schedule) -> Result<void> {
    if (schedule != ranked[0]) return {};
    return std::unexpected(Error{ErrorCode::unsupported, "spills 32 bytes of registers", ""});
  };
  const choices::Entry entry = must(Tuner(bench).tune(kSpec));
  EXPECT_EQ(standard_of(entry).schedule, ranked[1]);
}

TEST(Tuner, SpecOfWhichNothingCanBeMadeIsAnError) {
  SimulatedWorkbench bench(SimulatedTimes{}, [](const Choice&) { return 5.0; });
  bench.make_result = [](const Schedule&) -> Result<void> {
    return std::unexpected(Error{ErrorCode::compilation_failed, "no compiler", ""});
  };
  expect_error(Tuner(bench).tune(kSpec), ErrorCode::compilation_failed, "no compiler");
}

TEST(Tuner, TunesTheTokensOfTheBucket) {
  SimulatedWorkbench bench(SimulatedTimes{}, random_costs(1));
  KernelSpec spec = kSpec;
  spec.m = 3;
  EXPECT_EQ(must(Tuner(bench).tune(spec)).spec.m, 8);
  EXPECT_EQ(bench.begun().front().m, 8);
}

TEST(Tuner, PrunesWhatTheModelThinksIsFarOff) {
  SimulatedWorkbench bench(SimulatedTimes{}, random_costs(1));
  const auto all = must(schedules(kSpec)).size();
  const auto some = must(Tuner(bench, {.most_schedules = 10}).schedules_for(kSpec)).size();
  EXPECT_EQ(some, 10U);
  EXPECT_LT(must(Tuner(bench, {.prune_at = 1.05}).schedules_for(kSpec)).size(), all);
  EXPECT_GE(must(Tuner(bench, {.prune_at = 1}).schedules_for(kSpec)).size(), 6U);  // what a service may try
}

TEST(Tuner, BusyOrThrottledGpuIsMarked) {
  SimulatedWorkbench bench(SimulatedTimes{}, random_costs(1));
  bench.conditions_now.other_processes = 1;
  EXPECT_EQ(must(Tuner(bench).tune(kSpec)).conditions.quality, choices::Quality::busy);
  bench.conditions_now.other_processes = 0;
  bench.conditions_now.throttled_by = "thermal";
  EXPECT_EQ(must(Tuner(bench).tune(kSpec)).conditions.quality, choices::Quality::throttled);
}

TEST(Tuner, GpuAtItsPowerLimitIsRecordedAndNoWorseForIt) {
  SimulatedWorkbench bench(SimulatedTimes{}, random_costs(1));
  EXPECT_EQ(must(Tuner(bench).tune(kSpec)).conditions.power_capped, std::nullopt);
  bench.conditions_now.power_capped = true;
  const choices::Conditions capped = must(Tuner(bench).tune(kSpec)).conditions;
  EXPECT_EQ(capped.power_capped, true);
  EXPECT_EQ(capped.quality, choices::Quality::good);
  EXPECT_EQ(choices::describe_quality(capped), "good, power-capped");
  bench.conditions_now.power_capped = false;
  EXPECT_EQ(must(Tuner(bench).tune(kSpec)).conditions.power_capped, false);
}

TEST(Tuner, PowerLimitThatWasMetOnlyAtFirstIsRecorded) {
  SimulatedWorkbench bench(SimulatedTimes{}, random_costs(1));
  bench.conditions_now.power_capped = true;
  bench.check_result = [&](const Choice&) {  // after the first look
    bench.conditions_now.power_capped = false;
    return Result<void>();
  };
  EXPECT_EQ(must(Tuner(bench).tune(kSpec)).conditions.power_capped, true);
}

TEST(Tuner, RepeatsThatDifferMarkTheResult) {
  SimulatedWorkbench bench(noisy(0.3), random_costs(1));
  const choices::Entry entry = must(Tuner(bench).tune(kSpec));
  EXPECT_GT(entry.noise, 0.03);
  EXPECT_EQ(entry.conditions.quality, choices::Quality::noisy);
}

TEST(Tuner, MeasurementsHoldEveryPairOnceByTime) {
  SimulatedWorkbench bench(SimulatedTimes{}, random_costs(3));
  const choices::Entry entry = must(Tuner(bench).tune(kSpec));
  EXPECT_GT(entry.measurements.size(), 40U);
  EXPECT_TRUE(std::ranges::is_sorted(entry.measurements, {}, &choices::Measurement::microseconds));
  for (const choices::Measurement& each : entry.measurements) {
    EXPECT_NEAR(each.microseconds, bench.cost({entry.schedules[each.schedule], each.partitions}), 0.01);
  }
}

}  // namespace
}  // namespace lutsmith::tuning
