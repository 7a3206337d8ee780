#include "tuning/fit.h"

#include <gtest/gtest.h>

#include <array>
#include <tuple>
#include <vector>

#include "codegen/families.h"
#include "lutsmith/codegen.h"
#include "must.h"

namespace lutsmith::tuning {
namespace {

using test::must;

constexpr double kBandwidth = 3e12;
constexpr int kMultiprocessors = 132;

/// What a GPU with these costs would have measured: every schedule as a plain launch cuts it.
choices::Document measured_on(const MeasuredCosts& costs) {
  const Target target = must(Target::parse("sm_90a"));
  choices::Document document({.name = "made up", .multiprocessors = kMultiprocessors, .target = target});
  const GpuModel gpu{.multiprocessors = kMultiprocessors, .bytes_per_second = kBandwidth, .costs = costs};
  for (const auto& [n, k, m] :
       {std::tuple{4096, 4096, 1}, {6144, 4096, 8}, {4096, 14336, 16}, {28672, 4096, 1}}) {
    choices::Entry entry;
    entry.spec = {.format = {.bits = 4, .group = 128, .n = n, .k = k}, .m = m, .target = target};
    entry.schedules = must(schedules(entry.spec));
    for (std::size_t i = 0; i < entry.schedules.size(); ++i) {
      const Partition cut =
          must(partition(launch_recipe(entry.spec, entry.schedules[i]), m, kMultiprocessors));
      entry.measurements.push_back(
          {.schedule = i,
           .partitions = cut.partitions,
           .microseconds = estimated_microseconds(entry.spec, entry.schedules[i], gpu),
           .spread = 0,
           .rounds = 9});
    }
    document.put(entry);
  }
  return document;
}

/// A GPU on which rings and short tiles cost much more than the defaults say.
MeasuredCosts other_costs() {
  MeasuredCosts costs;
  costs.ring = 45;
  costs.segment = 1.5;
  costs.latency = 300;
  return costs;
}

TEST(Fit, ModelThatIsRightHasNoRegret) {
  const std::array documents{measured_on(other_costs())};
  const ModelRegret regret = model_regret(documents, other_costs(), kBandwidth);
  EXPECT_EQ(regret.specs, 4U);
  EXPECT_EQ(regret.worst, 0);
}

TEST(Fit, BringsTheRegretOfAWrongModelDown) {
  const std::array documents{measured_on(other_costs())};
  const ModelRegret before = model_regret(documents, MeasuredCosts{}, kBandwidth);
  ASSERT_GT(before.worst, 0.02);
  const MeasuredCosts fitted = fit_costs(documents, MeasuredCosts{}, kBandwidth);
  const ModelRegret after = model_regret(documents, fitted, kBandwidth);
  EXPECT_LT(after.mean, before.mean / 4);
  EXPECT_LT(after.worst, 0.01);
}

TEST(Fit, GivesTheSameCostsForTheSameDocuments) {
  const std::array documents{measured_on(other_costs())};
  const MeasuredCosts one = fit_costs(documents, MeasuredCosts{}, kBandwidth);
  const MeasuredCosts two = fit_costs(documents, MeasuredCosts{}, kBandwidth);
  std::vector<double> values;
  MeasuredCosts::visit_fields(one, [&](std::string_view, double value) { values.push_back(value); });
  std::size_t i = 0;
  MeasuredCosts::visit_fields(two, [&](std::string_view, double value) { EXPECT_EQ(value, values[i++]); });
}

TEST(Fit, LeavesTheCostsAsTheyAreWithoutMeasurements) {
  const MeasuredCosts start = other_costs();
  EXPECT_EQ(fit_costs({}, start, kBandwidth).ring, start.ring);
  EXPECT_EQ(model_regret({}, start, kBandwidth).specs, 0U);
}

}  // namespace
}  // namespace lutsmith::tuning
