#pragma once

#include <cstddef>
#include <span>

#include "choices/document.h"
#include "lutsmith/target.h"

namespace lutsmith::tuning {

/// How much longer the first choice of a cost model takes than the fastest schedule that was measured, each
/// with the number of partitions that a plain launch has; as a part of that.
struct ModelRegret {
  std::size_t specs = 0;
  double median = 0;
  double mean = 0;
  double worst = 0;
};

/// Of a model with these costs, on the schedules that were measured.
ModelRegret model_regret(std::span<const choices::Document> documents, const MeasuredCosts& costs,
                         double bytes_per_second);

/// Costs for a target whose choices were measured: those that bring the model's regret down, and its
/// estimates near the times, found by coordinate descent from `start`. The same documents give the same
/// costs.
MeasuredCosts fit_costs(std::span<const choices::Document> documents, const MeasuredCosts& start,
                        double bytes_per_second);

}  // namespace lutsmith::tuning
