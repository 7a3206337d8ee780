#include "cli/verbs/report/bench_report_json.h"

#include "choices/document_values.h"
#include "cli/verbs/report/tuning_report.h"
#include "lutsmith/version.h"

namespace lutsmith::cli {
namespace {

Json rounded_part(const std::optional<double>& value) {
  return choices::rounded_or_null<Json>(value, choices::kPartDecimals);
}
Json text_or_null(const std::string& text) { return text.empty() ? Json() : Json(text); }

Json ranges_json(const RangeFigures& figures) {
  Json list = Json::array();
  for (const RangeFigure& each : figures) {
    const bool any = each.points > 0;
    list.push_back({{"text", range_text(each.range)},
                    {"first", each.range.first},
                    {"last", each.range.last == 0 ? Json() : Json(each.range.last)},
                    {"points", each.points},
                    {"slow", each.slow},
                    {"mean", any ? rounded_part(each.mean) : Json()},
                    {"worst", any ? rounded_part(each.worst) : Json()}});
  }
  return list;
}

Json runs_json(const BenchReport& report) {
  Json list = Json::array();
  for (const BenchRun& run : report.runs) {
    list.push_back({{"file", run.file},
                    {"measured", text_or_null(run.measured)},
                    {"library", text_or_null(run.library)},
                    {"driver", text_or_null(run.driver)},
                    {"cublas", text_or_null(run.cublas)},
                    {"rows", run.rows}});
  }
  return list;
}

Json step_json(const std::optional<TokenStep>& step) {
  if (!step) return {};
  return {{"shapes", step->shapes},
          {"mean", rounded_part(step->mean)},
          {"most", rounded_part(step->most)},
          {"shape", step->series}};
}

Json models_json(const BenchReport& report) {
  Json list = Json::array();
  for (const BenchModel& model : report.models) {
    Json layers = Json::array();
    for (const BenchModel::Layer& layer : model.layers) {
      layers.push_back({{"name", layer.name}, {"shape", layer.series}});
    }
    list.push_back({{"names", model.names},
                    {"tp", model.tp},
                    {"weights", model.weights},
                    {"ranges", ranges_json(range_figures(report.series, series_of(model)))},
                    {"layers", std::move(layers)}});
  }
  return list;
}

Json point_json(const BenchPoint& point) {
  return {{"m", point.spec.m},
          {"microseconds", choices::rounded_or_null<Json>(point.microseconds)},
          {"cublas_microseconds", choices::rounded_or_null<Json>(point.cublas_microseconds)},
          {"floor_microseconds", choices::rounded_or_null<Json>(point.floor_microseconds)},
          {"speedup", rounded_part(point.speedup())},
          {"schedule", text_or_null(point.schedule)},
          {"partitions", point.partitions},
          {"error", text_or_null(point.failure)}};
}

Json shapes_json(const BenchReport& report) {
  Json list = Json::array();
  for (std::size_t i = 0; i < report.series.size(); ++i) {
    const BenchSeries& series = report.series[i];
    Json points = Json::array();
    for (const BenchPoint& point : series.points) points.push_back(point_json(point));
    const BenchPoint* worst = series.worst();
    list.push_back({{"name", series_name(series)},
                    {"weights", weights_text(series)},
                    {"n", series.format.n},
                    {"k", series.format.k},
                    {"layers", series.layers},
                    {"ranges", ranges_json(range_figures(report.series, {i}))},
                    {"worst", worst == nullptr
                                  ? Json()
                                  : Json{{"m", worst->spec.m}, {"speedup", rounded_part(worst->speedup())}}},
                    {"points", std::move(points)}});
  }
  return list;
}

}  // namespace

Json to_json(const BenchReport& report) {
  Json slow = Json::array();
  for (const PointPlace& place : report.slow) {
    const BenchPoint& point = report.at(place);
    slow.push_back(
        {{"shape", place.series}, {"m", point.spec.m}, {"speedup", rounded_part(point.speedup())}});
  }
  Json cliffs = Json::array();
  for (const Cliff& each : report.cliffs) {
    cliffs.push_back({{"shape", each.series},
                      {"first", each.first},
                      {"m", each.m},
                      {"more", each.more},
                      {"ratio", rounded_part(each.ratio)}});
  }
  Json failed = Json::array();
  for (const PointPlace& place : report.failed) {
    const BenchPoint& point = report.at(place);
    failed.push_back({{"shape", place.series}, {"m", point.spec.m}, {"error", point.failure}});
  }
  return {{"schema", 1},
          {"library", LUTSMITH_VERSION_STRING},
          {"gpu",
           {{"name", report.gpu.name},
            {"multiprocessors", report.gpu.multiprocessors},
            {"target", report.gpu.target.name()}}},
          {"runs", runs_json(report)},
          {"limits", {{"slow", kSlow}, {"cliff", kCliff}}},
          {"summary",
           {{"shapes", report.series.size()},
            {"points", report.count_points()},
            {"failed", report.failed.size()},
            {"ranges", ranges_json(report.ranges)},
            {"step", step_json(report.step)}}},
          {"slow", std::move(slow)},
          {"cliffs", std::move(cliffs)},
          {"failed", std::move(failed)},
          {"models", models_json(report)},
          {"shapes", shapes_json(report)}};
}

}  // namespace lutsmith::cli
