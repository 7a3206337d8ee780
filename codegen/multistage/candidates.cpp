#include <algorithm>
#include <optional>

#include "codegen/multistage/multistage.h"

namespace lutsmith {
namespace {

using namespace multistage;

struct Shape {
  int tile_rows;
  int warp_rows;
  int k_groups;
};

/// Blocks of eight warps, and of sixteen where weights do not pass through their registers.
constexpr Shape kShapes[] = {{256, 32, 1}, {128, 32, 2}, {128, 16, 1}, {256, 16, 1}, {256, 32, 2}};

struct Stages {
  int columns;
  int count;
};

/// The more k a stage has, the fewer barriers there are.
constexpr Stages kStages[] = {{128, 3}, {128, 2}, {64, 4}, {64, 3}, {64, 2}};

bool fits(const KernelSpec& spec, const MultistageSchedule& schedule) {
  return Multistage::validate(spec, schedule).has_value() &&
         Multistage::estimated_registers(spec, schedule) <= Multistage::register_limit(schedule);
}

/// With the first stages that fit, and scaled sums where they cost no more than scaled weights and fit too.
std::optional<MultistageSchedule> fitted(const KernelSpec& spec, MultistageSchedule schedule) {
  const bool sums_are_cheap =
      groups_per_unit(spec) == 1 && schedule.tile_tokens <= 64;  // of a unit: an instruction for each sum
  for (const bool scale_sums : {true, false}) {
    if (scale_sums && (!sums_are_cheap || spec.batch_invariant)) continue;
    schedule.scale_sums = scale_sums;
    for (const Stages& stages : kStages) {
      schedule.stage_columns = stages.columns;
      schedule.activation_stages = stages.count;
      if (fits(spec, schedule)) return schedule;
    }
  }
  return std::nullopt;
}

}  // namespace

std::vector<MultistageSchedule> Multistage::candidates(const KernelSpec& spec) {
  constexpr int kFewest = 17;  // tokens; those for few tokens are faster below
  std::vector<MultistageSchedule> candidates;
  if (spec.m < kFewest) return candidates;
  const TargetTraits& traits = spec.target.traits();
  for (const Shape& shape : kShapes) {
    for (const int tokens : kTileTokens) {
      // Twice as many tokens as there are would be multiplied for nothing; the fewer a tile has, the more
      // often weights are looked up.
      if (tokens >= 2 * spec.m || 2 * tokens < std::min<std::int64_t>(spec.m, 128)) continue;
      for (const WeightPath path : {WeightPath::registers, WeightPath::bulk_copy}) {
        if (path == WeightPath::bulk_copy && !traits.bulk_copy) continue;
        const MultistageSchedule schedule{.tile_rows = shape.tile_rows,
                                          .tile_tokens = tokens,
                                          .warp_rows = shape.warp_rows,
                                          .k_groups = shape.k_groups,
                                          .weights = path,
                                          .weight_stages = path == WeightPath::registers ? 2 : 3,
                                          .dependent_launch = traits.dependent_launch};
        if (const auto found = fitted(spec, schedule)) candidates.push_back(*found);
      }
    }
  }
  return candidates;
}

}  // namespace lutsmith
