#include "tuning/tuner.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "codegen/families.h"
#include "core/result.h"
#include "runtime/kernel_provider.h"
#include "tuning/contest.h"
#include "tuning/partition_counts.h"

namespace lutsmith::tuning {
namespace {

constexpr std::size_t kStandards = 3;  // repeats of the standard in every contest
constexpr int kFinalRounds = 24;

/// A schedule, by its place in the entry, with a number of partitions as a launch uses it.
struct Pair {
  std::size_t schedule = 0;
  int partitions = 0;

  auto operator<=>(const Pair&) const = default;
};

/// One spec's tuning.
class Search {
 public:
  Search(Workbench& bench, const TunerOptions& options, const TuningProgress& progress)
      : bench_(bench), options_(options), progress_(progress) {}

  Result<choices::Entry> run(const KernelSpec& spec, std::vector<Schedule> schedules) {
    entry_.spec = spec;
    entry_.schedules = std::move(schedules);
    const choices::Conditions before = bench_.conditions();
    Result<void> done = admit_schedules();
    if (done) done = compare_schedules();
    if (done) done = compare_partitions();
    if (done) done = decide();
    if (!done) return failure(done);
    Result<Bounds> bounds = bench_.bounds();
    if (!bounds) return failure(bounds);
    entry_.floor_microseconds = bounds->floor;
    entry_.floor_dependent_microseconds = bounds->floor_dependent;
    entry_.fp16_microseconds = bounds->fp16;
    set_conditions(before);
    set_measurements();
    return std::move(entry_);
  }

 private:
  struct Timing {
    double relative = 0;
    double spread = 0;
    int rounds = 0;
  };

  LaunchRecipe recipe(std::size_t schedule) const {
    return launch_recipe(entry_.spec, entry_.schedules[schedule]);
  }
  int own_partitions(std::size_t schedule) const {
    return partition(recipe(schedule), entry_.spec.m, bench_.gpu().multiprocessors)
        .value_or(Partition{})
        .partitions;
  }
  Choice choice(const Pair& pair) const { return {entry_.schedules[pair.schedule], pair.partitions}; }

  /// Drops those that cannot be compiled, spill, or give a wrong result.
  Result<void> admit_schedules() {
    if (Result<void> begun = bench_.begin(entry_.spec); !begun) return begun;
    bench_.compile_ahead(entry_.spec, entry_.schedules);
    for (std::size_t i = 0; i < entry_.schedules.size(); ++i) {
      const Pair pair{i, own_partitions(i)};
      Result<void> good = bench_.make(entry_.schedules[i]);
      if (good) good = bench_.check(choice(pair));
      if (good) {
        admitted_.push_back(pair);
      } else {
        if (!first_error_) first_error_ = good.error();
        entry_.failures.push_back({i, good.error().message});
      }
    }
    if (admitted_.empty()) return std::unexpected(*first_error_);
    // What a request without tuned choices would get.
    standard_ = admitted_.front();
    return {};
  }

  /// Times rivals against repeats of the standard; the order of the best.
  Result<std::vector<std::pair<double, Pair>>> compete(const std::vector<Pair>& rivals, std::size_t keep,
                                                       int final_rounds) {
    std::vector<Pair> pairs(kStandards, standard_);
    pairs.insert(pairs.end(), rivals.begin(), rivals.end());
    std::vector<measure::Contender> contenders;
    for (const Pair& pair : pairs) {
      Result<measure::Contender> contender = bench_.contender(choice(pair));
      if (!contender) return failure(contender);
      contenders.push_back(std::move(*contender));
    }
    Result<std::vector<Standing>> standings = contest(
        bench_.device(), contenders, {.standards = kStandards, .keep = keep, .final_rounds = final_rounds});
    if (!standings) return failure(standings);
    standings_ = std::move(*standings);
    std::vector<std::pair<double, Pair>> ranked;
    for (std::size_t i = 0; i < pairs.size(); ++i) {
      const Standing& standing = standings_[i];
      Timing& timing = timings_[pairs[i]];
      if (standing.rounds >= timing.rounds) timing = {standing.relative, standing.spread, standing.rounds};
      if (i >= kStandards && !standing.withdrawn) ranked.emplace_back(standing.relative, pairs[i]);
    }
    std::ranges::sort(ranked);
    standard_microseconds_ = standings_[0].microseconds;
    return ranked;
  }

  void tell(std::string_view doing) const {
    double best = 1;
    for (const auto& [pair, timing] : timings_) best = std::min(best, timing.relative);
    if (progress_) progress_({doing, best * standard_microseconds_});
  }

  Result<void> compare_schedules() {
    tell(fmt::format("{} schedules", admitted_.size()));
    std::vector<Pair> rivals;
    std::ranges::copy_if(admitted_, std::back_inserter(rivals),
                         [&](const Pair& pair) { return pair != standard_; });
    swept_ = {standard_.schedule};
    if (rivals.empty()) return {};
    auto ranked = compete(rivals, options_.swept, 0);
    if (!ranked) return failure(ranked);
    for (const auto& [relative, pair] : *ranked) swept_.push_back(pair.schedule);
    return {};
  }

  Result<void> compare_partitions() {
    std::vector<Pair> rivals;
    for (const std::size_t schedule : swept_) {
      for (const int partitions :
           partition_counts(recipe(schedule), entry_.spec.m, bench_.gpu().multiprocessors)) {
        const Pair pair{schedule, partitions};
        if (pair == standard_) continue;
        // What does not fit into the workspace, or is wrong, does not take part.
        if (Result<void> good = bench_.check(choice(pair)); good) rivals.push_back(pair);
      }
    }
    if (rivals.empty()) return {};
    tell(fmt::format("{} partition counts", rivals.size()));
    auto ranked = compete(rivals, options_.finalists, 0);
    if (!ranked) return failure(ranked);
    for (const auto& [relative, pair] : *ranked) finalists_.push_back(pair);
    return {};
  }

  Result<void> decide() {
    tell("finalists");
    for (int attempt = 0; attempt < 2; ++attempt) {
      auto ranked = compete(finalists_, finalists_.size(), kFinalRounds);
      if (!ranked) return failure(ranked);
      entry_.noise = std::max(options_.least_noise, noise(std::span(standings_).first(kStandards)));
      if (entry_.noise <= options_.most_noise) break;
    }
    entry_.standard = {standard_.schedule, standard_.partitions, standard_microseconds_};
    const Pair winner = pick();
    entry_.choice = {winner.schedule, winner.partitions, timings_[winner].relative * standard_microseconds_};
    if (winner == standard_) entry_.choice = entry_.standard;
    return {};
  }

  /// The winner of the last contest, or the standard.
  Pair pick() const {
    const double beaten = 1 - entry_.noise;
    double best = 1;
    const auto wins = [&](const Standing& standing) {
      return standing.relative < beaten && standing.relative_even < beaten && standing.relative_odd < beaten;
    };
    for (const Standing& standing : std::span(standings_).subspan(kStandards)) {
      if (wins(standing)) best = std::min(best, standing.relative);
    }
    Pair winner = standard_;
    bool found = false;
    for (std::size_t i = 0; i < finalists_.size(); ++i) {
      const Standing& standing = standings_[kStandards + i];
      const bool equal = wins(standing) && standing.relative <= best * (1 + entry_.noise);
      if (!equal || (found && winner < finalists_[i])) continue;
      winner = finalists_[i];
      found = true;
    }
    return winner;
  }

  void set_conditions(const choices::Conditions& before) {
    entry_.conditions = bench_.conditions();
    using enum choices::Quality;
    if (entry_.conditions.throttled_by.empty()) entry_.conditions.throttled_by = before.throttled_by;
    if (before.power_capped.value_or(false)) entry_.conditions.power_capped = true;
    const int others =
        std::max(before.other_processes.value_or(0), entry_.conditions.other_processes.value_or(0));
    if (entry_.conditions.other_processes) entry_.conditions.other_processes = others;
    entry_.conditions.quality = others > 0                                ? busy
                                : !entry_.conditions.throttled_by.empty() ? throttled
                                : entry_.noise > options_.most_noise      ? noisy
                                                                          : good;
  }

  void set_measurements() {
    for (const auto& [pair, timing] : timings_) {
      entry_.measurements.push_back({pair.schedule, pair.partitions, timing.relative * standard_microseconds_,
                                     timing.spread, timing.rounds});
    }
    std::ranges::stable_sort(entry_.measurements, {}, &choices::Measurement::microseconds);
  }

  Workbench& bench_;
  TunerOptions options_;
  const TuningProgress& progress_;
  choices::Entry entry_;
  std::optional<Error> first_error_;
  std::vector<Pair> admitted_;  ///< each schedule at its own number of partitions
  Pair standard_;
  std::vector<std::size_t> swept_;
  std::vector<Pair> finalists_;
  std::vector<Standing> standings_;  ///< of the last contest
  std::map<Pair, Timing> timings_;   ///< in units of the standard's time in the same contest
  double standard_microseconds_ = 0;
};

}  // namespace

Result<std::vector<Schedule>> schedules_to_measure(const KernelSpec& spec, const TunerOptions& options) {
  Result<std::vector<Schedule>> ranked = schedules(spec);
  if (!ranked) return ranked;
  KernelSpec bucket = spec;
  bucket.m = token_bucket(spec.m);
  const GpuModel gpu = GpuModel::of(spec.target);
  std::vector<Schedule> kept;
  double limit = HUGE_VAL;
  for (const Schedule& schedule : *ranked) {
    const double estimate = estimated_microseconds(bucket, schedule, gpu);
    if (kept.empty()) limit = estimate * options.prune_at + options.prune_microseconds;
    // The service tries the first few whatever they take.
    const bool tried = kept.size() < kMostCandidatesTried;
    if (!tried && (estimate > limit || kept.size() >= options.most_schedules)) break;
    kept.push_back(schedule);
  }
  return kept;
}

Result<std::vector<Schedule>> Tuner::schedules_for(const KernelSpec& spec) const {
  return schedules_to_measure(spec, options_);
}

Result<choices::Entry> Tuner::tune(const KernelSpec& spec, const TuningProgress& progress) {
  KernelSpec bucket = spec;
  bucket.m = token_bucket(spec.m);
  Result<std::vector<Schedule>> schedules = schedules_for(bucket);
  if (!schedules) return failure(schedules);
  if (schedules->empty()) {
    return std::unexpected(
        Error{ErrorCode::unsupported, fmt::format("there is no schedule for {}", describe(bucket)), ""});
  }
  return Search(bench_, options_, progress).run(bucket, *std::move(schedules));
}

}  // namespace lutsmith::tuning
