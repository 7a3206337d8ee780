#pragma once

#include <cstddef>
#include <functional>
#include <string_view>
#include <vector>

#include "choices/document.h"
#include "lutsmith/error.h"
#include "lutsmith/kernel_spec.h"
#include "tuning/workbench.h"

namespace lutsmith::tuning {

struct TunerOptions {
  /// Schedules that are measured: the cost model's best, as long as their estimates are no longer than
  /// `prune_at` times the first one's and `prune_microseconds` more. What every launch takes is no part of
  /// the estimate.
  std::size_t most_schedules = 32;
  double prune_at = 1.35;
  double prune_microseconds = 1;
  /// Schedules whose numbers of partitions are tried, and pairs of both that are compared with care.
  std::size_t swept = 6;
  std::size_t finalists = 4;
  /// Differences below this are none, however still the GPU is.
  double least_noise = 0.003;
  /// Repeats of one kernel that differ by more than this make the result a noisy one.
  double most_noise = 0.03;
};

/// The schedules that are compiled for a spec to tune it, in the cost model's order.
Result<std::vector<Schedule>> schedules_to_measure(const KernelSpec& spec, const TunerOptions& options);

/// What the tuner is doing, for whoever waits.
struct TuningStep {
  std::string_view doing;        ///< "12 schedules", "94 partition counts", "finalists"
  double best_microseconds = 0;  ///< so far; 0: nothing measured yet
};
using TuningProgress = std::function<void(const TuningStep&)>;

/// Measures what a spec's best schedule and number of partitions are.
///
///   cost model ------> schedules, each at its own number of partitions ----> the 6 fastest
///                      each at up to 20 numbers of partitions -------------> the 4 fastest pairs
///                      against three repeats of the standard --------------> the choice
///
/// Each arrow is a contest (contest.h). The standard is what the cost model chooses. A pair takes its place
/// only if it beats it by more than the noise, in the even rounds as well as in the odd ones. The noise is
/// what repeats of the standard differ by, or what the spread of their times lets one expect of medians,
/// whichever is more. Among pairs that win and differ by no more than that, the one first in the cost model's
/// order is taken, and then the one with fewer partitions: so the same measurements give the same choice, and
/// other measurements mostly the same.
///
/// All results are checked against float64 before they are timed.
class Tuner {
 public:
  /// `bench` must outlive it.
  explicit Tuner(Workbench& bench, const TunerOptions& options = {}) : bench_(bench), options_(options) {}

  /// The entry for a spec's token bucket. Errors: those of the workbench where not even the standard could be
  /// measured; unsupported where there is no kernel for such a spec.
  Result<choices::Entry> tune(const KernelSpec& spec, const TuningProgress& progress = {});

  /// See schedules_to_measure.
  Result<std::vector<Schedule>> schedules_for(const KernelSpec& spec) const;

 private:
  Workbench& bench_;
  TunerOptions options_;
};

}  // namespace lutsmith::tuning
