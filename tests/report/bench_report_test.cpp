#include "cli/verbs/report/bench_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cli/verbs/report/bench_report_json.h"
#include "cli/verbs/report/bench_report_text.h"
#include "cli/verbs/report/report_html.h"
#include "expect_error.h"
#include "must.h"

namespace lutsmith::test {
namespace {

using cli::BenchFile;
using cli::BenchReport;
using cli::Json;
using testing::ElementsAre;
using testing::HasSubstr;

Json spec(std::int64_t m, std::int64_t n = 4096) {
  return {{"bits", 4},         {"group", 128},      {"n", n}, {"k", 4096}, {"m", m}, {"dtype", "f16"},
          {"table", "scalar"}, {"target", "sm_90a"}};
}

/// A row of the default schedule; `cublas` 0: it was not measured.
Json row(std::int64_t m, double microseconds, double cublas = 0, std::int64_t n = 4096) {
  return {{"spec", spec(m, n)},
          {"schedule", {{"warps", 8}}},
          {"partitions", 132},
          {"default", true},
          {"microseconds", microseconds},
          {"cublas_microseconds", cublas > 0 ? Json(cublas) : Json()},
          {"floor_microseconds", 0.5},
          {"floor_dependent_microseconds", 0.25}};
}

Json failed_row(std::int64_t m) {
  return {
      {"spec", spec(m)}, {"partitions", 0}, {"error", {{"code", "cuda_error"}, {"message", "it is wrong"}}}};
}

Json of_layer(Json row, const std::string& model, const std::string& layer, int tp = 1) {
  row["model"] = model;
  row["layer"] = layer;
  row["tp"] = tp;
  return row;
}

/// As it is read from a file: numbers are of the types that a parser makes.
BenchFile file(const std::string& path, const std::vector<Json>& rows) {
  const Json json{{"gpu", "Example GPU"}, {"target", "sm_90a"}, {"multiprocessors", 132},
                  {"driver", 13000},      {"cublas", 130100},   {"rows", rows}};
  return {path, Json::parse(json.dump())};
}

BenchReport report_of(const std::vector<BenchFile>& files, const std::vector<std::string>& models = {}) {
  return must(cli::make_bench_report(must(cli::read_bench_documents(files)), models));
}
BenchReport report_of(const std::vector<Json>& rows) { return report_of({file("x.json", rows)}); }

TEST(BenchReport, MeansOfARangeAreGeometric) {
  const BenchReport report =
      report_of({row(1, 2, 4), row(16, 1, 8), row(17, 10, 5), row(32, 1), row(5000, 1, 3)});
  EXPECT_EQ(report.ranges[0].points, 2U);
  EXPECT_DOUBLE_EQ(report.ranges[0].mean, 4);
  EXPECT_DOUBLE_EQ(report.ranges[0].worst, 2);
  EXPECT_EQ(report.ranges[0].slow, 0U);
  EXPECT_EQ(report.ranges[1].points, 1U);
  EXPECT_DOUBLE_EQ(report.ranges[1].worst, 0.5);
  EXPECT_EQ(report.ranges[1].slow, 1U);
  EXPECT_EQ(report.ranges[2].points, 0U);
  EXPECT_DOUBLE_EQ(report.ranges[4].mean, 3);
}

TEST(BenchReport, PointsBelowTheLimitAreSlowTheWorstFirst) {
  const BenchReport report = report_of({row(1, 10, 8), row(8, 10, 9), row(16, 10, 5), row(32, 10, 20)});
  std::vector<std::int64_t> slow;
  for (const cli::PointPlace& place : report.slow) slow.push_back(report.at(place).spec.m);
  EXPECT_THAT(slow, ElementsAre(16, 1));
  EXPECT_EQ(report.series[0].worst()->spec.m, 16);
}

TEST(BenchReport, ACliffIsWhereFewerTokensTakeLongerThanTheNoise) {
  const BenchReport report =
      report_of({row(1, 5), row(8, 10), row(12, 12), row(16, 9), row(17, 30), row(32, 29.6), row(64, 40)});
  ASSERT_EQ(report.cliffs.size(), 1U);  // 30 against 29.6 is noise
  const cli::Cliff& cliff = report.cliffs[0];
  EXPECT_EQ(cliff.first, 8);
  EXPECT_EQ(cliff.m, 12);
  EXPECT_EQ(cliff.more, 16);
  EXPECT_DOUBLE_EQ(cliff.ratio, 12.0 / 9);
}

TEST(BenchReport, CliffsOfOneShapeAreToldApartAndTheHighestComesFirst) {
  const BenchReport report = report_of({row(1, 6), row(8, 5), row(16, 20), row(17, 10)});
  ASSERT_EQ(report.cliffs.size(), 2U);
  EXPECT_EQ(report.cliffs[0].m, 16);
  EXPECT_EQ(report.cliffs[1].m, 1);
  EXPECT_EQ(report.cliffs[1].more, 8);
}

TEST(BenchReport, TheStepFrom16To17IsTheMeanOfShapesThatHaveBoth) {
  const BenchReport report = report_of({row(16, 3), row(17, 3), row(16, 2, 0, 8192), row(17, 8, 0, 8192),
                                        row(17, 9, 0, 2048), row(18, 9, 0, 2048)});
  ASSERT_TRUE(report.step);
  EXPECT_EQ(report.step->shapes, 2U);
  EXPECT_DOUBLE_EQ(report.step->mean, 2);
  EXPECT_DOUBLE_EQ(report.step->most, 4);
  EXPECT_EQ(report.series[report.step->series].format.n, 8192);
  EXPECT_FALSE(report_of({row(16, 3), row(18, 3)}).step);
}

TEST(BenchReport, AFailureIsNoTime) {
  const BenchReport report = report_of({row(1, 2, 4), failed_row(8), row(16, 3, 4)});
  ASSERT_EQ(report.failed.size(), 1U);
  EXPECT_EQ(report.at(report.failed[0]).failure, "it is wrong");
  EXPECT_EQ(report.ranges[0].points, 2U);
  EXPECT_TRUE(report.cliffs.empty());
  const Json json = cli::to_json(report);
  EXPECT_TRUE(json["shapes"][0]["points"][1]["microseconds"].is_null());
  EXPECT_TRUE(json["shapes"][0]["points"][1]["speedup"].is_null());
  EXPECT_EQ(json["shapes"][0]["points"][1]["error"], "it is wrong");
  EXPECT_EQ(json["failed"][0]["m"], 8);
  EXPECT_THAT(cli::report_markdown(report), HasSubstr("| 8 | failed | - |"));
}

TEST(BenchReport, ALaterFilesRowTakesThePlaceOfAnEarlierOnes) {
  const BenchReport report = report_of({file("old.json", {row(1, 2, 4), row(8, 2, 4), row(16, 2, 4)}),
                                        file("new.json", {row(1, 1, 4), failed_row(8)})});
  const std::vector<cli::BenchPoint>& points = report.series[0].points;
  ASSERT_EQ(points.size(), 3U);
  EXPECT_EQ(points[0].microseconds, 1);
  EXPECT_FALSE(points[1].microseconds);
  EXPECT_EQ(points[2].microseconds, 2);
  ASSERT_EQ(report.runs.size(), 2U);
  EXPECT_EQ(report.runs[1].driver, "13.0");
  EXPECT_EQ(report.runs[1].cublas, "13.1.0");
}

TEST(BenchReport, OfASweepTheDefaultCounts) {
  Json other = row(1, 1, 4);
  other["default"] = false;
  other["schedule"]["warps"] = 4;
  Json failed = failed_row(1);
  failed["schedule"] = {{"warps", 16}};
  for (const auto& rows : {std::vector{other, row(1, 2, 4), failed}, std::vector{row(1, 2, 4), failed, other},
                           std::vector{failed, other, row(1, 2, 4)}}) {
    EXPECT_EQ(report_of(rows).series[0].points[0].microseconds, 2);
  }
  expect_error(cli::read_bench_documents({file("x.json", {other, failed})}), ErrorCode::invalid_argument,
               "x.json", "several schedules", "m1");
}

TEST(BenchReport, TheFloorIsThatOfTheSchedulesKindOfLaunch) {
  Json dependent = row(8, 2);
  dependent["schedule"]["dependent_launch"] = true;
  const BenchReport report = report_of({row(1, 2), dependent});
  EXPECT_EQ(report.series[0].points[0].floor_microseconds, 0.5);
  EXPECT_EQ(report.series[0].points[1].floor_microseconds, 0.25);
}

TEST(BenchReport, LayersOfOneShapeAreShownByTheirNamesAndMeasuredOnce) {
  const BenchReport report = report_of({of_layer(row(1, 2, 4), "a", "o"), of_layer(row(1, 2, 4), "a", "q"),
                                        of_layer(row(1, 2, 4), "b", "o"), of_layer(row(1, 2, 4), "b", "q"),
                                        of_layer(row(1, 2, 4), "b", "o", 2), row(1, 4, 4, 8192)});
  ASSERT_EQ(report.series.size(), 2U);
  EXPECT_THAT(report.series[0].layers, ElementsAre("a o", "a q", "b o", "b q", "b tp2 o"));
  ASSERT_EQ(report.models.size(), 3U);
  EXPECT_THAT(report.models[0].names, ElementsAre("a", "b"));
  EXPECT_EQ(report.models[0].layers.size(), 2U);
  EXPECT_EQ(cli::range_figures(report.series, cli::series_of(report.models[0]))[0].points, 1U);
  EXPECT_EQ(report.models[1].tp, 2);
  EXPECT_TRUE(report.models[2].names.empty());
  EXPECT_EQ(report.models[2].layers[0].name, "8192x4096");
}

TEST(BenchReport, AModelThatIsNamedIsShownWithoutTheOthers) {
  const std::vector<BenchFile> files{
      file("x.json", {of_layer(row(1, 2, 4), "a", "o"), of_layer(row(1, 2, 4, 8192), "b", "o")})};
  const BenchReport report = report_of(files, {"b"});
  ASSERT_EQ(report.series.size(), 1U);
  EXPECT_EQ(report.series[0].format.n, 8192);
  EXPECT_EQ(report.models.size(), 1U);
  expect_error(cli::make_bench_report(must(cli::read_bench_documents(files)), {"c"}), ErrorCode::not_found,
               "c", "a, b");
}

TEST(BenchReport, WhatIsNoRowIsToldWithItsPlace) {
  Json no_spec = row(1, 2);
  no_spec["spec"].erase("n");
  expect_error(cli::read_bench_documents({file("x.json", {row(1, 2), no_spec})}), ErrorCode::corrupt_data,
               "x.json: row 2");
  Json unknown = row(1, 2);
  unknown["spec"]["added_later"] = 1;
  expect_error(cli::read_bench_documents({file("x.json", {unknown})}), ErrorCode::corrupt_data, "row 1");
  Json foreign = row(1, 2);
  foreign["spec"]["target"] = "sm_80";
  expect_error(cli::read_bench_documents({file("x.json", {foreign})}), ErrorCode::corrupt_data, "row 1",
               "target");
  Json timeless = row(1, 2);
  timeless["microseconds"] = nullptr;
  expect_error(cli::read_bench_documents({file("x.json", {timeless})}), ErrorCode::corrupt_data,
               "neither microseconds");
  timeless["microseconds"] = -1;
  expect_error(cli::read_bench_documents({file("x.json", {timeless, 5})}), ErrorCode::corrupt_data, "row 1");
  expect_error(cli::read_bench_documents({file("x.json", {"text"})}), ErrorCode::corrupt_data, "row 1");
  expect_error(cli::make_bench_report(must(cli::read_bench_documents({file("x.json", {})})), {}),
               ErrorCode::not_found, "no rows");
}

TEST(BenchReport, KernelsThatMakeDifferentThingsOfTheirSumsAreNotOnePoint) {
  Json gated = of_layer(row(1, 3), "llama", "gate_up");
  gated["spec"]["gated"] = "silu";
  const BenchReport report = report_of({of_layer(row(1, 2), "llama", "gate_up"), gated});
  ASSERT_EQ(report.series.size(), 2U);
  EXPECT_EQ(series_name(report.series[0]), "w4 g128 f16 scalar 4096x4096");
  EXPECT_EQ(series_name(report.series[1]), "w4 g128 f16 scalar 4096x4096, silu gates");
  EXPECT_EQ(report.series[1].points.front().microseconds, 3);
  ASSERT_EQ(report.models.size(), 2U);
  EXPECT_EQ(report.models[1].weights, "w4 g128 f16 scalar, silu gates");
  EXPECT_EQ(report.models[1].layers.front().series, 1U);
  EXPECT_EQ(cli::to_json(report)["shapes"][1]["weights"], "w4 g128 f16 scalar, silu gates");
  EXPECT_EQ(
      report_of({file("x.json", {of_layer(row(1, 2), "llama", "gate_up"), gated})}, {"llama"}).count_points(),
      2U);
}

TEST(BenchReport, FilesOfTwoGpusAreRefused) {
  BenchFile other = file("y.json", {row(1, 2)});
  other.json["multiprocessors"] = 114U;
  expect_error(cli::read_bench_documents({file("x.json", {row(1, 2)}), other}), ErrorCode::invalid_argument,
               "x.json", "132", "y.json", "114");
  other.json.erase("gpu");
  expect_error(cli::read_bench_documents({other}), ErrorCode::corrupt_data, "y.json", "GPU");
}

TEST(BenchReport, ThePageHoldsTheSameDataAsJsonAndLoadsNothing) {
  Json hostile = failed_row(8);
  hostile["error"]["message"] = "</script><img src=x>{{vega}}\x1b[2J";
  const Json json = cli::to_json(report_of({row(1, 2, 4), hostile}));
  const std::string html = cli::bench_html(json);
  constexpr std::string_view kBegin = "id=\"report-data\">";
  const std::size_t begin = html.find(kBegin) + kBegin.size();
  EXPECT_EQ(Json::parse(html.substr(begin, html.find("</script>", begin) - begin)), json);
  EXPECT_THAT(html, HasSubstr("default-src 'none'"));
  EXPECT_THAT(html, testing::Not(HasSubstr("<img")));
  EXPECT_THAT(html, testing::Not(HasSubstr("{{body}}")));
  EXPECT_THAT(html, testing::Not(HasSubstr("\x1b")));
}

}  // namespace
}  // namespace lutsmith::test
