#include <fmt/format.h>

#include <string_view>

#include "codegen/multistage/multistage.h"
#include "codegen/validate_field.h"
#include "core/result.h"

namespace lutsmith {
namespace {

using namespace multistage;

Result<void> validate_warps(const MultistageSchedule& schedule) {
  if (schedule.k_groups < 1 || schedule.k_groups > kMostGroups) {
    return refuse(
        fmt::format("k_groups: {} is not allowed; allowed: 1 to {}", schedule.k_groups, kMostGroups));
  }
  if (warps(schedule) > kMostWarps) {
    return refuse(fmt::format("k_groups: {} is not allowed with {} rows of {} a warp; allowed: 1",
                              schedule.k_groups, schedule.tile_rows, schedule.warp_rows));
  }
  return {};
}

Result<void> validate_stages(std::string_view field, int stages, int most) {
  if (stages >= 2 && stages <= most) return {};
  return refuse(fmt::format("{}: {} is not allowed; allowed here: 2 to {}", field, stages, most));
}

Result<void> validate_features(const TargetTraits& traits, const MultistageSchedule& schedule) {
  if (schedule.weights == WeightPath::async_copy) {
    return refuse(
        "weights: async_copy is not allowed, since its copies would be counted with those of X; allowed: "
        "registers, bulk_copy");
  }
  if (schedule.weights == WeightPath::bulk_copy && !traits.bulk_copy) {
    return refuse(fmt::format("weights: {} has no bulk copies; allowed: registers", traits.name));
  }
  if (schedule.dependent_launch && !traits.dependent_launch) {
    return refuse(
        fmt::format("dependent_launch: {} has no programmatic dependent launch; allowed: off", traits.name));
  }
  return {};
}

}  // namespace

Result<void> Multistage::validate(const KernelSpec& spec, const MultistageSchedule& schedule) {
  if (auto valid = validate_one_of("tile_rows", schedule.tile_rows, kTileRows); !valid) return valid;
  if (auto valid = validate_tile_rows(spec, schedule.tile_rows); !valid) return valid;
  if (auto valid = validate_one_of("tile_tokens", schedule.tile_tokens, kTileTokens); !valid) return valid;
  if (auto valid = validate_one_of("warp_rows", schedule.warp_rows, kWarpRows); !valid) return valid;
  if (auto valid = validate_one_of("stage_columns", schedule.stage_columns, kStageColumns); !valid)
    return valid;
  if (auto valid = validate_warps(schedule); !valid) return valid;
  if (schedule.scale_sums && spec.format.offsets) {
    return refuse(
        "scale_sums: on is not allowed with offsets, which are added to weights together with their scales; "
        "allowed: off");
  }
  if (auto valid = validate_stages("activation_stages", schedule.activation_stages, kMostStages); !valid) {
    return valid;
  }
  const int most = schedule.weights == WeightPath::registers ? 3 : kMostStages;
  if (auto valid = validate_stages("weight_stages", schedule.weight_stages, most); !valid) return valid;
  const TargetTraits& traits = spec.target.traits();
  if (auto valid = validate_features(traits, schedule); !valid) return valid;
  if (const int bytes = shared_bytes(spec, schedule); bytes > traits.shared_bytes_per_block) {
    return refuse(fmt::format(
        "schedule: {} bytes of shared memory are needed, {} has {} for a block; take fewer stages, "
        "rows or tokens",
        bytes, traits.name, traits.shared_bytes_per_block));
  }
  return {};
}

}  // namespace lutsmith
