#include "cli/verbs/report/bench_report.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <iterator>
#include <ranges>
#include <set>
#include <string_view>
#include <tuple>
#include <utility>

#include "cli/verbs/report/tuning_report.h"
#include "core/result.h"

namespace lutsmith::cli {
namespace {

/// As people look for them: more bits first, then by size.
auto place_of(const BenchSeries& series) {
  const WeightFormat& format = series.format;
  return std::tuple(-format.bits, format.group, format.dtype, format.table, format.offsets, format.n,
                    format.k, std::string_view(series.epilogue));
}

/// A name with what is made of the sums.
std::string with_epilogue(std::string name, const std::string& epilogue) {
  return epilogue.empty() ? name : fmt::format("{}, {}", name, epilogue);
}

std::vector<BenchSeries>::iterator find_series(std::vector<BenchSeries>& all, const WeightFormat& format,
                                               std::string_view epilogue) {
  return std::ranges::find_if(
      all, [&](const BenchSeries& each) { return each.format == format && each.epilogue == epilogue; });
}

std::vector<BenchSeries> make_series(std::map<std::string, BenchPoint> points) {
  std::vector<BenchSeries> all;
  for (auto& [name, point] : points) {
    const std::string epilogue = describe_epilogue(point.spec);
    auto place = find_series(all, point.spec.format, epilogue);
    if (place == all.end())
      place = all.insert(all.end(), {.format = point.spec.format, .epilogue = epilogue});
    place->points.push_back(std::move(point));
  }
  std::ranges::sort(all, {}, place_of);
  for (BenchSeries& each : all) {
    std::ranges::sort(each.points, {}, [](const BenchPoint& point) { return point.spec.m; });
  }
  return all;
}

std::string layer_name(const BenchLayer& layer) {
  return layer.name.empty() ? fmt::format("{}x{}", layer.format.n, layer.format.k) : layer.name;
}

/// The models of the layers, whose names the series get.
std::vector<BenchModel> make_models(const std::vector<BenchLayer>& layers, std::vector<BenchSeries>& series) {
  std::vector<BenchModel> models;
  for (const BenchLayer& layer : layers) {
    const auto found = find_series(series, layer.format, layer.epilogue);
    const std::vector<std::string> names =
        layer.model.empty() ? std::vector<std::string>{} : std::vector{layer.model};
    const std::string weights = with_epilogue(weights_name(layer.format), layer.epilogue);
    auto model = std::ranges::find_if(models, [&](const BenchModel& each) {
      return each.names == names && each.tp == layer.tp && each.weights == weights;
    });
    if (model == models.end()) {
      model = models.insert(models.end(), {.names = names, .tp = layer.tp, .weights = weights});
    }
    model->layers.push_back(
        {.name = layer_name(layer), .series = static_cast<std::size_t>(found - series.begin())});
    if (layer.model.empty()) continue;
    const std::string share = layer.tp == 1 ? "" : fmt::format(" tp{}", layer.tp);
    found->layers.push_back(fmt::format("{}{} {}", layer.model, share, layer.name));
  }
  return models;
}

/// One for models that ask for the same work.
std::vector<BenchModel> merge_same(std::vector<BenchModel> models) {
  std::vector<BenchModel> merged;
  for (BenchModel& model : models) {
    const auto same = std::ranges::find_if(
        merged, [&](const BenchModel& each) { return each.tp == model.tp && each.layers == model.layers; });
    if (same == merged.end()) {
      merged.push_back(std::move(model));
    } else {
      std::ranges::move(model.names, std::back_inserter(same->names));
    }
  }
  return merged;
}

/// Geometric means are sums of logarithms.
void add_speed(RangeFigure& figure, double speed) {
  figure.worst = figure.points == 0 ? speed : std::min(figure.worst, speed);
  figure.mean += std::log(speed);
  figure.slow += speed < kSlow ? 1 : 0;
  ++figure.points;
}

/// Neighbouring numbers of tokens that some one larger number beats are one cliff.
void add_cliffs(const BenchSeries& series, std::size_t place, std::vector<Cliff>& cliffs) {
  std::vector<Cliff> found;  // from many tokens to few
  const BenchPoint* fastest = nullptr;
  for (const BenchPoint& point : std::views::reverse(series.points)) {
    if (!point.microseconds) continue;
    const double ratio = fastest == nullptr ? 0 : *point.microseconds / *fastest->microseconds;
    if (fastest == nullptr || *point.microseconds <= *fastest->microseconds) fastest = &point;
    if (ratio <= kCliff) continue;
    const Cliff cliff{place, point.spec.m, point.spec.m, fastest->spec.m, ratio};
    if (found.empty() || found.back().more != cliff.more) {
      found.push_back(cliff);
    } else {
      Cliff& known = found.back();
      if (ratio > known.ratio) known = cliff;
      known.first = cliff.first;
    }
  }
  std::ranges::move(found, std::back_inserter(cliffs));
}

const BenchPoint* measured_at(const BenchSeries& series, std::int64_t m) {
  const auto found = std::ranges::find_if(
      series.points, [&](const BenchPoint& point) { return point.spec.m == m && point.microseconds; });
  return found == series.points.end() ? nullptr : &*found;
}

std::optional<TokenStep> step_to_17(const std::vector<BenchSeries>& all) {
  TokenStep step;
  for (std::size_t i = 0; i < all.size(); ++i) {
    const BenchPoint* at_16 = measured_at(all[i], 16);
    const BenchPoint* at_17 = measured_at(all[i], 17);
    if (at_16 == nullptr || at_17 == nullptr) continue;
    const double ratio = *at_17->microseconds / *at_16->microseconds;
    step.mean += std::log(ratio);
    ++step.shapes;
    if (ratio > step.most) std::tie(step.most, step.series) = std::pair(ratio, i);
  }
  if (step.shapes == 0) return std::nullopt;
  step.mean = std::exp(step.mean / static_cast<double>(step.shapes));
  return step;
}

Result<void> keep_models(BenchDocuments& documents, const std::vector<std::string>& models) {
  for (const std::string& wanted : models) {
    if (std::ranges::find(documents.layers, wanted, &BenchLayer::model) != documents.layers.end()) continue;
    std::set<std::string> known;
    for (const BenchLayer& layer : documents.layers) {
      if (!layer.model.empty()) known.insert(layer.model);
    }
    return std::unexpected(
        Error{ErrorCode::not_found,
              fmt::format("model: there are no rows of {}; there are rows of: {}", wanted,
                          known.empty() ? "no model" : fmt::format("{}", fmt::join(known, ", "))),
              "without --model the report has all of them"});
  }
  if (models.empty()) return {};
  std::erase_if(documents.layers, [&](const BenchLayer& layer) {
    return std::ranges::find(models, layer.model) == models.end();
  });
  std::erase_if(documents.points, [&](const auto& named) {
    const KernelSpec& spec = named.second.spec;
    return std::ranges::none_of(documents.layers, [&](const BenchLayer& layer) {
      return layer.format == spec.format && layer.epilogue == describe_epilogue(spec);
    });
  });
  return {};
}

void mark_points(BenchReport& report) {
  for (std::size_t i = 0; i < report.series.size(); ++i) {
    const BenchSeries& series = report.series[i];
    for (std::size_t j = 0; j < series.points.size(); ++j) {
      const std::optional<double> speed = series.points[j].speedup();
      if (speed && *speed < kSlow) report.slow.push_back({i, j});
      if (!series.points[j].microseconds) report.failed.push_back({i, j});
    }
    add_cliffs(series, i, report.cliffs);
  }
  std::ranges::stable_sort(report.slow, {},
                           [&](const PointPlace& place) { return *report.at(place).speedup(); });
  std::ranges::stable_sort(report.cliffs, std::greater(), &Cliff::ratio);
}

}  // namespace

std::string range_text(const TokenRange& range) {
  return range.last == 0 ? fmt::format("above {}", range.first - 1)
                         : fmt::format("{} to {}", range.first, range.last);
}

const BenchPoint* BenchSeries::worst() const {
  const BenchPoint* worst = nullptr;
  for (const BenchPoint& point : points) {
    const std::optional<double> speed = point.speedup();
    if (speed && (worst == nullptr || *speed < *worst->speedup())) worst = &point;
  }
  return worst;
}

std::size_t BenchReport::count_points() const {
  std::size_t count = 0;
  for (const BenchSeries& each : series) count += each.points.size();
  return count;
}

std::string weights_text(const BenchSeries& series) {
  return with_epilogue(weights_name(series.format), series.epilogue);
}

std::string series_name(const BenchSeries& series) {
  const WeightFormat& format = series.format;
  return with_epilogue(fmt::format("{} {}x{}", weights_name(format), format.n, format.k), series.epilogue);
}

std::vector<std::size_t> series_of(const BenchModel& model) {
  std::vector<std::size_t> which;
  for (const BenchModel::Layer& layer : model.layers) which.push_back(layer.series);
  return which;
}

RangeFigures range_figures(const std::vector<BenchSeries>& all, std::vector<std::size_t> which) {
  std::ranges::sort(which);
  which.erase(std::unique(which.begin(), which.end()), which.end());
  RangeFigures figures;
  for (std::size_t i = 0; i < figures.size(); ++i) figures[i].range = kTokenRanges[i];
  for (const std::size_t place : which) {
    for (const BenchPoint& point : all[place].points) {
      const std::optional<double> speed = point.speedup();
      if (!speed) continue;
      const auto figure = std::ranges::find_if(figures, [&](const RangeFigure& each) {
        return each.range.last == 0 || point.spec.m <= each.range.last;
      });
      add_speed(*figure, *speed);
    }
  }
  for (RangeFigure& figure : figures) {
    if (figure.points > 0) figure.mean = std::exp(figure.mean / static_cast<double>(figure.points));
  }
  return figures;
}

Result<BenchReport> make_bench_report(BenchDocuments documents, const std::vector<std::string>& models) {
  if (documents.points.empty()) {
    return std::unexpected(Error{ErrorCode::not_found, "there are no rows to report",
                                 "`lutsmith bench --model NAME --m 1,16,17,256 --json` prints some"});
  }
  if (Result<void> kept = keep_models(documents, models); !kept) return failure(kept);
  BenchReport report{.gpu = std::move(documents.gpu), .runs = std::move(documents.runs)};
  report.series = make_series(std::move(documents.points));
  report.models = merge_same(make_models(documents.layers, report.series));
  std::vector<std::size_t> every(report.series.size());
  for (std::size_t i = 0; i < every.size(); ++i) every[i] = i;
  report.ranges = range_figures(report.series, every);
  report.step = step_to_17(report.series);
  mark_points(report);
  return report;
}

}  // namespace lutsmith::cli
