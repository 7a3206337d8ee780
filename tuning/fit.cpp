#include "tuning/fit.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "codegen/families.h"

namespace lutsmith::tuning {
namespace {

/// A schedule as a plain launch runs it, and what that took.
struct Sample {
  std::size_t place;  ///< of the schedule in its entry
  const Schedule* schedule;
  double microseconds;
};

struct Case {
  const KernelSpec* spec;
  int multiprocessors;
  std::vector<Sample> samples;
  double best = HUGE_VAL;
};

std::vector<Case> cases_of(std::span<const choices::Document> documents) {
  std::vector<Case> cases;
  for (const choices::Document& document : documents) {
    for (const auto& [name, entry] : document.entries()) {
      Case each{.spec = &entry.spec, .multiprocessors = document.gpu().multiprocessors, .samples = {}};
      for (const choices::Measurement& measured : entry.measurements) {
        const Schedule& schedule = entry.schedules[measured.schedule];
        const Result<Partition> plain =
            partition(launch_recipe(entry.spec, schedule), entry.spec.m, each.multiprocessors);
        if (!plain || plain->partitions != measured.partitions) continue;
        each.samples.push_back({measured.schedule, &schedule, measured.microseconds});
        each.best = std::min(each.best, measured.microseconds);
      }
      // Measurements are sorted by their time, which must not decide between equal estimates.
      std::ranges::sort(each.samples, {}, &Sample::place);
      if (each.samples.size() > 1) cases.push_back(std::move(each));
    }
  }
  return cases;
}

GpuModel model_of(const Case& each, const MeasuredCosts& costs, double bytes_per_second) {
  return {.multiprocessors = each.multiprocessors, .bytes_per_second = bytes_per_second, .costs = costs};
}

/// What descent brings down: the regret of a choice that is drawn the more often the less its estimate is (so
/// that it changes with every cost, not only where the first choice does), large ones above all, and a little
/// of how far estimates are from times.
double badness(const std::vector<Case>& cases, const MeasuredCosts& costs, double bytes_per_second) {
  constexpr double kSoftness = 0.012;  // estimates that differ by so much are taken about equally often
  constexpr double kTimesMatter = 0.1;
  constexpr double kLargeMatter = 20;  // a regret of 5 % counts twice
  constexpr double kNear = 1.5;        // schedules slower than that do not come into question
  double sum = 0;
  for (const Case& each : cases) {
    const GpuModel model = model_of(each, costs, bytes_per_second);
    std::vector<double> estimates;
    for (const Sample& sample : each.samples) {
      estimates.push_back(estimated_microseconds(*each.spec, *sample.schedule, model));
    }
    const double least = std::ranges::min(estimates);
    double weights = 0;
    double regret = 0;
    double error = 0;
    int near = 0;
    for (std::size_t i = 0; i < estimates.size(); ++i) {
      const double loss = each.samples[i].microseconds / each.best - 1;
      const double weight = std::exp(-(estimates[i] / least - 1) / kSoftness);
      weights += weight;
      regret += weight * loss;
      if (loss > kNear - 1) continue;
      const double off = std::log(estimates[i] / each.samples[i].microseconds);
      error += off * off;
      ++near;
    }
    const double mean = regret / weights;
    sum += mean + kLargeMatter * mean * mean + kTimesMatter * error / near;
  }
  return sum / static_cast<double>(cases.size());
}

std::vector<double*> parameters_of(MeasuredCosts& costs) {
  std::vector<double*> result;
  MeasuredCosts::visit_fields(costs, [&](std::string_view, double& value) { result.push_back(&value); });
  return result;
}

}  // namespace

ModelRegret model_regret(std::span<const choices::Document> documents, const MeasuredCosts& costs,
                         double bytes_per_second) {
  std::vector<double> losses;
  for (const Case& each : cases_of(documents)) {
    const GpuModel model = model_of(each, costs, bytes_per_second);
    const Sample& first = *std::ranges::min_element(each.samples, {}, [&](const Sample& sample) {
      return estimated_microseconds(*each.spec, *sample.schedule, model);
    });
    losses.push_back(first.microseconds / each.best - 1);
  }
  if (losses.empty()) return {};
  std::ranges::sort(losses);
  return {.specs = losses.size(),
          .median = losses[losses.size() / 2],
          .mean = std::accumulate(losses.begin(), losses.end(), 0.0) / static_cast<double>(losses.size()),
          .worst = losses.back()};
}

MeasuredCosts fit_costs(std::span<const choices::Document> documents, const MeasuredCosts& start,
                        double bytes_per_second) {
  const std::vector<Case> cases = cases_of(documents);
  MeasuredCosts costs = start;
  if (cases.empty()) return costs;
  const std::vector<double*> parameters = parameters_of(costs);
  std::vector<double> steps;
  for (const double* parameter : parameters) steps.push_back(std::max(std::abs(*parameter) * 0.3, 0.01));
  double least = badness(cases, costs, bytes_per_second);
  constexpr int kSweeps = 120;
  for (int sweep = 0; sweep < kSweeps; ++sweep) {
    for (std::size_t i = 0; i < parameters.size(); ++i) {
      const double before = *parameters[i];
      bool better = false;
      for (const double direction : {1.0, -1.0}) {
        *parameters[i] = std::max(before + direction * steps[i], 0.0);
        const double now = badness(cases, costs, bytes_per_second);
        better = now < least;
        if (better) {
          least = now;
          break;
        }
        *parameters[i] = before;
      }
      steps[i] *= better ? 1.3 : 0.6;
      steps[i] = std::max(steps[i], std::abs(*parameters[i]) * 0.001 + 1e-6);
    }
  }
  return costs;
}

}  // namespace lutsmith::tuning
