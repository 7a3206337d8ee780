#include "cli/verbs/report/tuning_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "cli/verbs/report/report_json.h"
#include "example_choices.h"
#include "must.h"

namespace lutsmith::test {
namespace {

using cli::ReportModel;
using cli::ReportShape;
using cli::TuningReport;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;

TuningReport report_of(choices::Document document, const cli::ReportOptions& options = {}) {
  return must(cli::make_report({.documents = {std::move(document)}, .sources = {"example.json"}}, options));
}

/// The document without the entries of one size.
choices::Document without(const choices::Document& document, std::int64_t n, std::int64_t k) {
  choices::Document rest(document.gpu());
  for (const auto& [name, entry] : document.entries()) {
    if (entry.spec.format.n != n || entry.spec.format.k != k) rest.put(entry);
  }
  return rest;
}

choices::Document one_entry(const choices::Entry& entry) {
  choices::Document document(example_choices({}).gpu());
  document.put(entry);
  return document;
}

choices::Entry first_entry() { return example_choices({.tokens = {1}}).entries().begin()->second; }

TEST(TuningReport, APassThroughAModelIsTheSumOfItsLayers) {
  const TuningReport report = report_of(example_choices({.tokens = {1, 8}}));
  // Two models of the same work are one; a third has layers of the same shapes, but experts.
  ASSERT_EQ(report.models.size(), 2U);
  EXPECT_THAT(report.models[1].names, ElementsAre("mixtral-8x7b"));
  const ReportModel& model = report.models.front();
  EXPECT_THAT(model.names, ElementsAre("llama3.1-8b", "mistral-7b"));
  EXPECT_EQ(model.tp, 1);
  ASSERT_EQ(model.steps.size(), 2U);
  for (const cli::ModelStep& step : model.steps) {
    ASSERT_EQ(step.layers.size(), 4U);
    double sum = 0, standard = 0, floor = 0, fp16 = 0;
    for (const cli::LayerTime& layer : step.layers) {
      EXPECT_EQ(layer.launches, 32);
      const ReportShape& shape = report.shapes[layer.shape];
      EXPECT_EQ(shape.entry->spec.m, step.m);
      sum += 32 * shape.entry->choice.microseconds;
      standard += 32 * shape.entry->standard.microseconds;
      floor += 32 * *shape.entry->floor_dependent_microseconds;
      fp16 += 32 * *shape.entry->fp16_microseconds;
    }
    EXPECT_NEAR(step.microseconds, sum, 1e-6);
    EXPECT_NEAR(step.default_microseconds, standard, 1e-6);
    EXPECT_NEAR(step.floor_microseconds, floor, 1e-6);
    EXPECT_NEAR(step.fp16_microseconds.value(), fp16, 1e-6);
  }
}

TEST(TuningReport, AModelOfWhichALayerIsMissingIsNotShown) {
  const choices::Document all = example_choices({.tokens = {1}});
  EXPECT_TRUE(report_of(without(all, 28672, 4096)).models.empty());
}

TEST(TuningReport, NamesSayAllOfASpecButItsTarget) {
  KernelSpec spec{.format = {.bits = 4, .group = 128, .n = 64, .k = 256, .offsets = true},
                  .m = 8,
                  .target = *Target::parse("sm_90a"),
                  .batch_invariant = true};
  EXPECT_EQ(cli::shape_name(spec), "w4 g128 64x256 m8 f16 scalar batch-invariant offsets");
  EXPECT_EQ(cli::weights_name(spec.format), "w4 g128 f16 scalar offsets");
  spec.batch_invariant = spec.format.offsets = false;
  EXPECT_EQ(cli::shape_name(spec), "w4 g128 64x256 m8 f16 scalar");
}

TEST(TuningReport, NothingIsSaidOfFp16WhereALayerHasNone) {
  choices::Document document = example_choices({.tokens = {1}});
  choices::Entry entry = document.entries().begin()->second;
  entry.fp16_microseconds.reset();
  document.put(entry);
  const TuningReport report = report_of(document);
  EXPECT_FALSE(report.models.at(0).steps.at(0).fp16_microseconds.has_value());
  EXPECT_GT(report.models.at(0).steps.at(0).microseconds, 0);
}

TEST(TuningReport, ExpertsTakeALaunchEachWithTheirShareOfTheTokens) {
  const TuningReport report = report_of(example_choices({.models = {"mixtral-8x7b"}, .tokens = {1, 8, 16}}));
  const auto found =
      std::ranges::find(report.models, std::vector<std::string>{"mixtral-8x7b"}, &ReportModel::names);
  ASSERT_NE(found, report.models.end());
  // One token reaches two of eight experts; 16 tokens reach all eight, 4 tokens each, which is the bucket
  // of 8.
  const cli::ModelStep& one = found->steps.at(0);
  EXPECT_EQ(one.layers.at(0).launches, 32);
  EXPECT_EQ(one.layers.at(2).launches, 64);
  EXPECT_EQ(report.shapes[one.layers.at(2).shape].entry->spec.m, 1);
  const cli::ModelStep& sixteen = found->steps.at(2);
  EXPECT_EQ(sixteen.m, 16);
  EXPECT_EQ(sixteen.layers.at(2).launches, 8 * 32);
  EXPECT_EQ(report.shapes[sixteen.layers.at(2).shape].entry->spec.m, 8);
}

TEST(TuningReport, ANamedModelLeavesTheShapesOfOthersOut) {
  const choices::Document both = example_choices({.models = {"llama3.1-8b", "qwen2.5-7b"}, .tokens = {1}});
  const TuningReport report = report_of(both, {.models = {"qwen2.5-7b"}});
  ASSERT_EQ(report.models.size(), 1U);
  EXPECT_EQ(report.shapes.size(), 4U);
  for (const ReportShape& shape : report.shapes) {
    EXPECT_THAT(shape.layers, Contains(HasSubstr("qwen2.5-7b")));
    EXPECT_GE(shape.entry->spec.format.n, 3584);
  }
  // What the models count into are the shapes that are left.
  for (const cli::LayerTime& layer : report.models[0].steps[0].layers) {
    EXPECT_LT(layer.shape, report.shapes.size());
  }
}

TEST(TuningReport, AnIncompleteModelIsNamedWithWhatIsMissing) {
  const choices::Document document = without(example_choices({.tokens = {1}}), 4096, 14336);
  const auto report = cli::make_report({.documents = {document}, .sources = {}}, {.models = {"llama3.1-8b"}});
  ASSERT_FALSE(report.has_value());
  EXPECT_EQ(report.error().code, ErrorCode::not_found);
  EXPECT_THAT(report.error().message, HasSubstr("w4 g128 f16 scalar 4096x14336 m1"));
  EXPECT_THAT(report.error().context, HasSubstr("lutsmith tune --model llama3.1-8b"));
}

TEST(TuningReport, AnUnknownModelIsAWrongArgument) {
  const auto report = cli::make_report({.documents = {example_choices({.tokens = {1}})}, .sources = {}},
                                       {.models = {"llama9"}});
  ASSERT_FALSE(report.has_value());
  EXPECT_EQ(report.error().code, ErrorCode::invalid_argument);
}

TEST(TuningReport, NothingTunedIsAnErrorThatTellsWhatToDo) {
  const auto report = cli::make_report({}, {});
  ASSERT_FALSE(report.has_value());
  EXPECT_EQ(report.error().code, ErrorCode::not_found);
  EXPECT_THAT(report.error().context, HasSubstr("lutsmith tune"));
}

TEST(TuningReport, TheFloorIsTheOneThatTheChosenScheduleCanReach) {
  choices::Entry entry = first_entry();
  entry.floor_microseconds = 2;
  entry.floor_dependent_microseconds = 1.5;
  auto& schedule = std::get<FewTokensSchedule>(entry.schedules[entry.choice.schedule]);
  schedule.dependent_launch = true;
  EXPECT_EQ(report_of(one_entry(entry)).shapes[0].floor_microseconds, 1.5);
  schedule.dependent_launch = false;
  EXPECT_EQ(report_of(one_entry(entry)).shapes[0].floor_microseconds, 2);
  schedule.dependent_launch = true;
  entry.floor_dependent_microseconds.reset();
  EXPECT_EQ(report_of(one_entry(entry)).shapes[0].floor_microseconds, 2);
}

TEST(TuningReport, EachScheduleContendsWithItsBestNumberOfPartitions) {
  choices::Entry entry = first_entry();
  entry.schedules.resize(3);
  entry.failures.clear();
  entry.choice = {.schedule = 1, .partitions = 264, .microseconds = 4};
  entry.standard = {.schedule = 0, .partitions = 132, .microseconds = 5};
  entry.measurements = {{1, 264, 4, 0, 25}, {0, 264, 4.5, 0, 25}, {0, 132, 5, 0, 25}, {2, 132, 8, 0, 5}};
  const TuningReport report = report_of(one_entry(entry));
  const ReportShape& shape = report.shapes[0];
  ASSERT_EQ(shape.contenders.size(), 3U);
  EXPECT_EQ(shape.contenders[0].best.schedule, 1U);
  EXPECT_EQ(shape.contenders[0].slower, 0);
  EXPECT_EQ(shape.contenders[1].best.partitions, 264);
  EXPECT_NEAR(shape.contenders[1].slower, 0.125, 1e-12);
  EXPECT_NEAR(shape.contenders[2].slower, 1, 1e-12);
  EXPECT_NEAR(shape.saved(), 0.2, 1e-12);
  EXPECT_NEAR(shape.regret(), 0.25, 1e-12);
  EXPECT_TRUE(shape.replaces_default());
}

TEST(TuningReport, APredictionShowsBothSidesOfAFullWave) {
  const TuningReport report = report_of(one_entry(first_entry()));
  const cli::Estimate& estimate = report.shapes[0].estimates.at(0);
  EXPECT_EQ(estimate.schedule, report.shapes[0].entry->choice.schedule);
  EXPECT_EQ(estimate.resident_blocks % 132, 0);
  std::vector<int> partitions;
  for (const auto& [count, time] : estimate.points) {
    partitions.push_back(count);
    EXPECT_GT(time, 0);
  }
  EXPECT_TRUE(std::ranges::is_sorted(partitions));
  EXPECT_THAT(partitions, Contains(estimate.resident_blocks));
  EXPECT_THAT(partitions, Contains(estimate.resident_blocks + 1));
}

TEST(TuningReport, AScheduleThatThisVersionWouldNotRunHasNoPrediction) {
  choices::Entry entry = first_entry();
  entry.choice = {.schedule = 0, .partitions = 132, .microseconds = 4};
  entry.standard = {.schedule = 1, .partitions = 132, .microseconds = 5};
  std::get<FewTokensSchedule>(entry.schedules[1]).warps = 99;
  EXPECT_EQ(report_of(one_entry(entry)).shapes[0].estimates.size(), 1U);
}

TEST(TuningReport, ShapesOfSeveralGpusStayApart) {
  const choices::Document one = example_choices({.tokens = {1}});
  choices::Document other({.name = "Another GPU", .multiprocessors = 78, .target = one.gpu().target});
  for (const auto& [name, entry] : one.entries()) other.put(entry);
  const TuningReport report = must(cli::make_report({.documents = {one, other}, .sources = {}}, {}));
  EXPECT_EQ(report.models.size(), 4U);
  for (const ReportModel& model : report.models) {
    for (const cli::LayerTime& layer : model.steps[0].layers) {
      EXPECT_EQ(report.shapes[layer.shape].gpu, model.gpu);
    }
  }
  EXPECT_EQ(cli::machines(report).size(), 2U);
}

TEST(ReportSummary, TheMedianOfTwoIsTheirMean) {
  EXPECT_EQ(cli::median({}), 0);
  EXPECT_EQ(cli::median({3}), 3);
  EXPECT_EQ(cli::median({4, 1}), 2.5);
  EXPECT_EQ(cli::median({9, 1, 2}), 2);
}

TEST(ReportSummary, MachinesKnowTheRangeOfTheirClocksAndDates) {
  choices::Document document = example_choices({.tokens = {1}});
  choices::Entry late = document.entries().begin()->second;
  late.conditions.measured = "2026-02-03T00:00:00Z";
  late.conditions.clock_mhz = 1755;
  late.conditions.power_watts.reset();
  document.put(late);
  const auto machines = cli::machines(report_of(document));
  ASSERT_EQ(machines.size(), 1U);
  EXPECT_EQ(machines[0].shapes, 4U);
  EXPECT_EQ(machines[0].first, "2026-01-02T03:04:05Z");
  EXPECT_EQ(machines[0].last, "2026-02-03T00:00:00Z");
  EXPECT_EQ(machines[0].clock_mhz, std::pair(1755.0, 1980.0));
  EXPECT_EQ(machines[0].power_watts, std::pair(350.0, 350.0));
}

}  // namespace
}  // namespace lutsmith::test
