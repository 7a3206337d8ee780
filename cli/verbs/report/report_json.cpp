#include "cli/verbs/report/report_json.h"

#include <algorithm>
#include <optional>

#include "choices/document_values.h"
#include "cli/output/kernel_json.h"
#include "lutsmith/version.h"

namespace lutsmith::cli {
namespace {

using cli::to_json;

/// As many digits as a reader can use: they are most of a large report.
double rounded(double value) { return choices::rounded(value, choices::kPartDecimals); }
Json rounded_or_null(const std::optional<double>& value) {
  return choices::rounded_or_null<Json>(value, choices::kPartDecimals);
}

Json schedules_json(const choices::Entry& entry) {
  Json list = Json::array();
  for (const Schedule& schedule : entry.schedules) {
    Json json = to_json(schedule);
    json["text"] = lutsmith::describe(schedule);
    list.push_back(std::move(json));
  }
  return list;
}

Json measurements_json(const choices::Entry& entry) {
  Json list = Json::array();
  for (const choices::Measurement& each : entry.measurements) {
    list.push_back({each.schedule, each.partitions, each.microseconds, each.spread, each.rounds});
  }
  return list;
}

Json estimates_json(const ReportShape& shape) {
  Json list = Json::array();
  for (const Estimate& estimate : shape.estimates) {
    Json points = Json::array();
    for (const auto& [partitions, time] : estimate.points) points.push_back({partitions, rounded(time)});
    list.push_back(
        {{"schedule", estimate.schedule}, {"resident", estimate.resident_blocks}, {"points", points}});
  }
  return list;
}

Json change_json(const ReportShape& shape) {
  if (!shape.change) return {};
  return {{"status", to_string(shape.change->kind)},
          {"before_microseconds", choices::value_or_null<Json>(shape.change->before_microseconds)},
          {"ratio", rounded_or_null(shape.change_ratio())}};
}

Json to_json(const ReportShape& shape) {
  const choices::Entry& entry = *shape.entry;
  Json spec = to_json(entry.spec);
  spec.erase("target");
  Json contenders = Json::array();
  for (const Contender& each : shape.contenders) {
    Json json = choices::timed_json<Json>(each.best);
    json["slower"] = rounded(each.slower);
    contenders.push_back(std::move(json));
  }
  Json failures = Json::array();
  for (const choices::Failure& each : entry.failures) {
    failures.push_back({{"schedule", each.schedule}, {"reason", each.reason}});
  }
  return {{"gpu", shape.gpu},
          {"spec", std::move(spec)},
          {"name", shape_name(entry.spec)},
          {"weights", weights_name(entry.spec.format)},
          {"layers", shape.layers},
          {"choice", choices::timed_json<Json>(entry.choice)},
          {"default", choices::timed_json<Json>(entry.standard)},
          {"noise", entry.noise},
          {"saved", rounded(shape.saved())},
          {"regret", rounded(shape.regret())},
          {"floor_microseconds", shape.floor_microseconds},
          {"floor_share", rounded(shape.floor_share())},
          {"fp16_microseconds", choices::value_or_null<Json>(entry.fp16_microseconds)},
          {"fp16_speedup", rounded_or_null(shape.fp16_speedup())},
          {"schedules", schedules_json(entry)},
          {"measurements", measurements_json(entry)},
          {"estimates", estimates_json(shape)},
          {"contenders", std::move(contenders)},
          {"failures", std::move(failures)},
          {"conditions", choices::conditions_json<Json>(entry.conditions)},
          {"change", change_json(shape)}};
}

Json to_json(const ReportModel& model) {
  Json layers = Json::array();
  for (const ReportLayer& layer : model.layers) {
    layers.push_back({{"name", layer.name}, {"n", layer.n}, {"k", layer.k}});
  }
  Json steps = Json::array();
  for (const ModelStep& step : model.steps) {
    Json times = Json::array();
    for (const LayerTime& each : step.layers) {
      times.push_back({{"shape", each.shape}, {"launches", each.launches}});
    }
    steps.push_back({{"m", step.m},
                     {"microseconds", rounded(step.microseconds)},
                     {"microseconds_per_token", rounded(step.microseconds / static_cast<double>(step.m))},
                     {"default_microseconds", rounded(step.default_microseconds)},
                     {"floor_microseconds", rounded(step.floor_microseconds)},
                     {"fp16_microseconds", rounded_or_null(step.fp16_microseconds)},
                     {"layers", std::move(times)}});
  }
  return {{"names", model.names},
          {"tp", model.tp},
          {"gpu", model.gpu},
          {"weights", model.weights},
          {"layers", std::move(layers)},
          {"steps", std::move(steps)}};
}

Json figure_json(const ReportSummary::Figure& figure, const char* extreme) {
  return {{"median", rounded(figure.median)}, {extreme, rounded(figure.extreme)}};
}

Json summary_json(const TuningReport& report) {
  const ReportSummary summary = summarize(report);
  return {{"shapes", summary.shapes},
          {"tuned", summary.tuned},
          {"saved", summary.saved ? figure_json(*summary.saved, "most") : Json()},
          {"floor_share", figure_json(summary.floor_share, "least")},
          {"fp16_speedup", summary.fp16_speedup ? figure_json(*summary.fp16_speedup, "least") : Json()},
          {"regret", figure_json(summary.regret, "most")},
          {"doubtful", report.count_doubtful()},
          {"power_capped", report.count_power_capped()}};
}

Json range_json(const MeasuredOn::Range& range) {
  return range ? Json::array({range->first, range->second}) : Json();
}

Json to_json(const MeasuredOn& machine) {
  return {{"gpu", machine.gpu},
          {"driver", machine.driver},
          {"compiler", machine.compiler},
          {"library", machine.library},
          {"shapes", machine.shapes},
          {"first", machine.first},
          {"last", machine.last},
          {"clock_mhz", range_json(machine.clock_mhz)},
          {"memory_clock_mhz", range_json(machine.memory_clock_mhz)},
          {"power_watts", range_json(machine.power_watts)},
          {"temperature_celsius", range_json(machine.temperature_celsius)}};
}

Json against_json(const TuningReport& report) {
  if (!report.against) return {};
  Json json{{"file", report.against->file}, {"tolerance", report.against->tolerance}};
  using enum ChangeKind;
  for (const ChangeKind kind : {slower, faster, uncertain, same, added}) {
    json[std::string(to_string(kind))] = report.count_changes(kind);
  }
  json["gone"] = Json::array();
  for (const auto& [gpu, name] : report.against->gone) {
    json["gone"].push_back({{"gpu", gpu.name}, {"name", name}});
  }
  return json;
}

void widen(MeasuredOn::Range& range, const std::optional<double>& value) {
  if (!value) return;
  range = range ? std::pair(std::min(range->first, *value), std::max(range->second, *value))
                : std::pair(*value, *value);
}

}  // namespace

ReportSummary summarize(const TuningReport& report) {
  std::vector<double> saved, floor, fp16, regret;
  for (const ReportShape& shape : report.shapes) {
    if (shape.replaces_default()) saved.push_back(shape.saved());
    if (shape.entry->fp16_microseconds) fp16.push_back(*shape.fp16_speedup());
    floor.push_back(shape.floor_share());
    regret.push_back(shape.regret());
  }
  using Figure = ReportSummary::Figure;
  ReportSummary summary{.shapes = report.shapes.size(), .tuned = saved.size()};
  if (!saved.empty()) summary.saved = Figure{median(saved), std::ranges::max(saved)};
  if (!fp16.empty()) summary.fp16_speedup = Figure{median(fp16), std::ranges::min(fp16)};
  summary.floor_share = {median(floor), std::ranges::min(floor)};
  summary.regret = {median(regret), std::ranges::max(regret)};
  return summary;
}

std::vector<MeasuredOn> machines(const TuningReport& report) {
  std::vector<MeasuredOn> result;
  for (const ReportShape& shape : report.shapes) {
    const choices::Conditions& at = shape.entry->conditions;
    const auto same = [&](const MeasuredOn& each) {
      return each.gpu == shape.gpu && each.driver == at.driver && each.compiler == at.compiler &&
             each.library == at.library;
    };
    auto place = std::ranges::find_if(result, same);
    if (place == result.end()) {
      result.push_back({.gpu = shape.gpu,
                        .driver = at.driver,
                        .compiler = at.compiler,
                        .library = at.library,
                        .first = at.measured,
                        .last = at.measured});
      place = std::prev(result.end());
    }
    ++place->shapes;
    place->first = std::min(place->first, at.measured);  // ISO 8601 sorts by time
    place->last = std::max(place->last, at.measured);
    widen(place->clock_mhz, at.clock_mhz);
    widen(place->memory_clock_mhz, at.memory_clock_mhz);
    widen(place->power_watts, at.power_watts);
    widen(place->temperature_celsius, at.temperature_celsius);
  }
  return result;
}

Json to_json(const TuningReport& report) {
  Json gpus = Json::array();
  for (std::size_t i = 0; i < report.tuned.documents.size(); ++i) {
    gpus.push_back({{"name", report.gpu(i).name},
                    {"multiprocessors", report.gpu(i).multiprocessors},
                    {"target", report.gpu(i).target.name()},
                    {"shapes", std::ranges::count(report.shapes, i, &ReportShape::gpu)}});
  }
  const auto list = [](const auto& items) {
    Json json = Json::array();
    for (const auto& item : items) json.push_back(to_json(item));
    return json;
  };
  return {{"schema", 1},
          {"library", LUTSMITH_VERSION_STRING},
          {"sources", report.tuned.sources},
          {"gpus", std::move(gpus)},
          {"summary", summary_json(report)},
          {"machines", list(machines(report))},
          {"models", list(report.models)},
          {"shapes", list(report.shapes)},
          {"against", against_json(report)}};
}

}  // namespace lutsmith::cli
