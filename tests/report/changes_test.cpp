#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cli/verbs/report/report_text.h"
#include "cli/verbs/report/tuning_report.h"
#include "example_choices.h"
#include "must.h"

namespace lutsmith::test {
namespace {

using cli::ChangeKind;
using cli::TuningReport;
using testing::HasSubstr;

choices::Entry entry_of(double microseconds, double noise = 0.001,
                        choices::Quality quality = choices::Quality::good) {
  choices::Entry entry = example_choices({.tokens = {1}}).entries().begin()->second;
  entry.choice.microseconds = microseconds;
  entry.noise = noise;
  entry.conditions.quality = quality;
  return entry;
}

choices::Document document_of(const choices::Entry& entry) {
  choices::Document document(example_choices({}).gpu());
  document.put(entry);
  return document;
}

TuningReport compared(const choices::Entry& now, const choices::Entry& before, double tolerance = 0.02) {
  const cli::ReportOptions options{.tolerance = tolerance};
  TuningReport report = must(cli::make_report({.documents = {document_of(now)}, .sources = {}}, options));
  must(cli::compare(report, document_of(before), "older.json", options));
  return report;
}

ChangeKind change(const choices::Entry& now, const choices::Entry& before, double tolerance = 0.02) {
  return compared(now, before, tolerance).shapes.at(0).change.value().kind;
}

TEST(Changes, WhatMovedWithinTheToleranceIsAsBefore) {
  EXPECT_EQ(change(entry_of(10.19), entry_of(10)), ChangeKind::same);
  EXPECT_EQ(change(entry_of(9.81), entry_of(10)), ChangeKind::same);
}

TEST(Changes, WhatMovedWithinTheNoiseOfBothIsAsBefore) {
  EXPECT_EQ(change(entry_of(10.4, 0.03), entry_of(10, 0.02)), ChangeKind::same);
  EXPECT_EQ(change(entry_of(10.6, 0.03), entry_of(10, 0.02)), ChangeKind::slower);
}

TEST(Changes, WhatIsSlowerBeyondBothIsARegression) {
  EXPECT_EQ(change(entry_of(10.3), entry_of(10)), ChangeKind::slower);
  EXPECT_EQ(change(entry_of(9.7), entry_of(10)), ChangeKind::faster);
  EXPECT_EQ(change(entry_of(10.3), entry_of(10), /*tolerance=*/0.05), ChangeKind::same);
  EXPECT_EQ(change(entry_of(10.1), entry_of(10), /*tolerance=*/0), ChangeKind::slower);
}

TEST(Changes, WhatWasMeasuredOnABusyGpuIsNoRegression) {
  using enum choices::Quality;
  for (const choices::Quality quality : {busy, throttled, noisy}) {
    EXPECT_EQ(change(entry_of(12, 0.001, quality), entry_of(10)), ChangeKind::uncertain);
    EXPECT_EQ(change(entry_of(10), entry_of(12, 0.001, quality)), ChangeKind::uncertain);
    EXPECT_EQ(change(entry_of(10, 0.001, quality), entry_of(10)), ChangeKind::same);
  }
}

TEST(Changes, NewAndGoneShapesAreTold) {
  choices::Entry other = entry_of(10);
  other.spec.format.n *= 2;
  const TuningReport report = compared(entry_of(10), other);
  EXPECT_EQ(report.count_changes(ChangeKind::added), 1U);
  EXPECT_FALSE(report.shapes.at(0).change_ratio().has_value());
  ASSERT_EQ(report.against.value().gone.size(), 1U);
  EXPECT_EQ(report.against->gone[0].second, cli::shape_name(other.spec));
  EXPECT_EQ(cli::changes_summary(report), "0 slower, 0 faster, 0 as before, 1 new, 1 gone");
}

TEST(Changes, TheWorstRegressionComesFirst) {
  const choices::Document before = example_choices({.tokens = {1}});
  choices::Document now(before.gpu());
  double factor = 0.9;
  for (const auto& [name, entry] : before.entries()) {
    choices::Entry moved = entry;
    moved.choice.microseconds *= factor;
    now.put(moved);
    factor += 0.1;  // 0.9, 1, 1.1, 1.2
  }
  TuningReport report = must(cli::make_report({.documents = {now}, .sources = {}}, {}));
  must(cli::compare(report, before, "older.json", {}));
  const auto changed = cli::changed_shapes(report);
  ASSERT_EQ(changed.size(), 3U);
  EXPECT_EQ(cli::change_text(*changed[0]), "slower 20.0 %");
  EXPECT_EQ(cli::change_text(*changed[1]), "slower 10.0 %");
  EXPECT_EQ(cli::change_text(*changed[2]), "faster 10.0 %");
}

TEST(Changes, ADocumentOfAnotherGpuIsRefused) {
  TuningReport report = must(cli::make_report({.documents = {document_of(entry_of(10))}, .sources = {}}, {}));
  const choices::Document other(
      {.name = "Another GPU", .multiprocessors = 78, .target = report.gpu(0).target});
  const auto result = cli::compare(report, other, "other.json", {});
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().code, ErrorCode::invalid_argument);
  EXPECT_THAT(result.error().message, HasSubstr("Another GPU, 78 multiprocessors"));
  EXPECT_THAT(result.error().message, HasSubstr(report.gpu(0).name));
}

TEST(Changes, OfAReportOnOneModelShapesOfOthersAreNotGone) {
  const choices::Document both = example_choices({.models = {"llama3.1-8b", "qwen2.5-7b"}, .tokens = {1}});
  const cli::ReportOptions options{.models = {"llama3.1-8b"}};
  const choices::Document now = example_choices({.tokens = {1}});
  TuningReport report = must(cli::make_report({.documents = {now}, .sources = {}}, options));
  must(cli::compare(report, both, "older.json", options));
  EXPECT_TRUE(report.against.value().gone.empty());
  EXPECT_EQ(report.count_changes(ChangeKind::same), 4U);
}

}  // namespace
}  // namespace lutsmith::test
