#include "cli/verbs/report/tuning_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <tuple>

#include "codegen/families.h"
#include "core/result.h"

namespace lutsmith::cli {
namespace {

/// Points of a predicted curve between those that matter.
constexpr int kEvenPoints = 40;

/// By GPU, weights (more bits first), tokens and size, as people look for them.
auto place_of(const ReportShape& shape) {
  const KernelSpec& spec = shape.entry->spec;
  return std::tuple(shape.gpu, -spec.format.bits, spec.format.group, spec.format.dtype, spec.format.table,
                    spec.format.offsets, spec.m, spec.format.n, spec.format.k);
}

std::vector<Contender> contenders(const choices::Entry& entry) {
  std::map<std::size_t, choices::Timed> best;
  for (const choices::Measurement& each : entry.measurements) {
    const choices::Timed timed{each.schedule, each.partitions, each.microseconds};
    const auto [place, added] = best.try_emplace(each.schedule, timed);
    if (!added && timed.microseconds < place->second.microseconds) place->second = timed;
  }
  // Of the chosen schedule the choice, even where another number of partitions was faster within the noise.
  best[entry.choice.schedule] = entry.choice;
  std::vector<Contender> result;
  for (const auto& [schedule, timed] : best) {
    result.push_back({timed, timed.microseconds / entry.choice.microseconds - 1});
  }
  std::ranges::stable_sort(result, {}, [](const Contender& each) { return each.best.microseconds; });
  return result;
}

/// Where the curve is looked at: what was measured, both sides of every full wave, and evenly between.
std::set<int> points_of_curve(const choices::Entry& entry, int resident) {
  int most = std::max({entry.choice.partitions, entry.standard.partitions, resident});
  int least = std::min(entry.choice.partitions, entry.standard.partitions);
  std::set<int> points;
  for (const choices::Measurement& each : entry.measurements) {
    points.insert(each.partitions);
    most = std::max(most, each.partitions);
    least = std::min(least, each.partitions);
  }
  for (std::int64_t full = resident; full <= most; full += resident) {
    points.insert(static_cast<int>(full));
    if (full < most) points.insert(static_cast<int>(full) + 1);
    if (points.size() > 4 * kEvenPoints) break;  // one wave of a tiny GPU is a point in a wide chart
  }
  for (int i = 0; i <= kEvenPoints; ++i) {
    points.insert(least + static_cast<int>(std::int64_t{most - least} * i / kEvenPoints));
  }
  return points;
}

/// Nothing for a schedule that this version of the library would not run.
std::vector<Estimate> estimates(const choices::Entry& entry, const choices::Gpu& gpu) {
  GpuModel model = GpuModel::of(gpu.target);
  model.multiprocessors = gpu.multiprocessors;
  std::vector<Estimate> result;
  for (const std::size_t schedule : {entry.choice.schedule, entry.standard.schedule}) {
    const bool done = !result.empty() && result.front().schedule == schedule;
    if (done || !validate(entry.spec, entry.schedules[schedule])) continue;
    const int resident =
        resident_partitions(launch_recipe(entry.spec, entry.schedules[schedule]), gpu.multiprocessors);
    Estimate& estimate = result.emplace_back(Estimate{schedule, resident, {}});
    for (const int partitions : points_of_curve(entry, resident)) {
      const double time = estimated_microseconds(entry.spec, entry.schedules[schedule], model, partitions);
      if (std::isfinite(time)) estimate.points.emplace_back(partitions, time);
    }
  }
  return result;
}

ReportShape make_shape(std::size_t gpu, const choices::Document& document, const choices::Entry& entry) {
  ReportShape shape{.gpu = gpu, .entry = &entry};
  // The schedule of a choice is valid: documents are read so.
  const bool dependent = launch_recipe(entry.spec, entry.schedules[entry.choice.schedule]).dependent_launch;
  shape.floor_microseconds = dependent ? entry.floor_dependent_microseconds.value_or(entry.floor_microseconds)
                                       : entry.floor_microseconds;
  shape.contenders = contenders(entry);
  shape.estimates = estimates(entry, document.gpu());
  return shape;
}

}  // namespace

std::optional<double> ReportShape::fp16_speedup() const {
  if (!entry->fp16_microseconds) return std::nullopt;
  return *entry->fp16_microseconds / microseconds();
}

double ReportShape::regret() const {
  const double fastest = std::min(entry->standard.microseconds, contenders.front().best.microseconds);
  return entry->standard.microseconds / fastest - 1;
}

bool ReportShape::replaces_default() const {
  return entry->choice.schedule != entry->standard.schedule ||
         entry->choice.partitions != entry->standard.partitions;
}

std::size_t TuningReport::count_doubtful() const {
  return static_cast<std::size_t>(std::ranges::count_if(shapes, [](const ReportShape& shape) {
    return shape.entry->conditions.quality != choices::Quality::good;
  }));
}

std::size_t TuningReport::count_power_capped() const {
  return static_cast<std::size_t>(std::ranges::count_if(
      shapes, [](const ReportShape& shape) { return shape.entry->conditions.power_capped.value_or(false); }));
}

std::string weights_name(const WeightFormat& format) {
  const std::string group = format.group == kPerChannel ? "channel" : std::to_string(format.group);
  return fmt::format("w{} g{} {} {}{}", format.bits, group, to_string(format.dtype), to_string(format.table),
                     format.offsets ? " offsets" : "");
}

std::string shape_name(const KernelSpec& spec) {
  std::string name = lutsmith::describe(spec);
  const std::string target = fmt::format(" {}", spec.target.name());
  if (const std::size_t at = name.find(target); at != std::string::npos) name.erase(at, target.size());
  return name;
}

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::ranges::sort(values);
  const std::size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

Result<TuningReport> make_report(TunedDocuments tuned, const ReportOptions& options) {
  TuningReport report{.tuned = std::move(tuned)};
  for (std::size_t gpu = 0; gpu < report.tuned.documents.size(); ++gpu) {
    const choices::Document& document = report.tuned.documents[gpu];
    for (const auto& [name, entry] : document.entries()) {
      report.shapes.push_back(make_shape(gpu, document, entry));
    }
  }
  if (report.shapes.empty()) {
    return std::unexpected(
        Error{ErrorCode::not_found, "there are no tuned choices to report",
              "`lutsmith tune` measures on a GPU and keeps what it chooses; a FILE names a "
              "document of another machine"});
  }
  std::ranges::sort(report.shapes, {}, place_of);
  Result<std::vector<ReportModel>> models = match_models(report.shapes, options.models);
  if (models && !options.models.empty()) {
    std::erase_if(report.shapes, [](const ReportShape& shape) { return shape.layers.empty(); });
    models = match_models(report.shapes, options.models);  // shapes have other places now
  }
  if (!models) return failure(models);
  report.models = *std::move(models);
  return report;
}

}  // namespace lutsmith::cli
