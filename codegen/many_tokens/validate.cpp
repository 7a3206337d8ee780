#include <fmt/format.h>

#include <string_view>

#include "codegen/many_tokens/many_tokens.h"
#include "codegen/validate_field.h"
#include "core/result.h"

namespace lutsmith {
namespace {

using namespace many_tokens;

Result<void> validate_warpgroups(const ManyTokensSchedule& schedule) {
  if (schedule.k_groups < 1 || schedule.k_groups > kMostGroups) {
    return refuse(
        fmt::format("k_groups: {} is not allowed; allowed: 1 to {}", schedule.k_groups, kMostGroups));
  }
  // Each group finishes its share of the tokens, two octets at a time.
  if (schedule.tile_tokens % (16 * schedule.k_groups) != 0) {
    return refuse(fmt::format("k_groups: {} is not allowed with {} tokens; allowed: 1", schedule.k_groups,
                              schedule.tile_tokens));
  }
  if (warpgroups(schedule) > kMostWarpgroups) {
    return refuse(fmt::format("k_groups: {} is not allowed with {} rows; allowed: 1", schedule.k_groups,
                              schedule.tile_rows));
  }
  // A thread holds half a sum for every token, and the more warpgroups, the fewer registers each thread has.
  constexpr int kMostTokens[] = {256, 256, 192, 128};
  const int most = kMostTokens[warpgroups(schedule) - 1];
  if (schedule.tile_tokens > most) {
    return refuse(
        fmt::format("tile_tokens: {} is not allowed with {} rows and {} groups along K; allowed: up to {}",
                    schedule.tile_tokens, schedule.tile_rows, schedule.k_groups, most));
  }
  return {};
}

Result<void> validate_cluster(const ManyTokensSchedule& schedule) {
  if (schedule.cluster_blocks >= 1 && schedule.cluster_blocks <= kMostClusterBlocks) return {};
  return refuse(fmt::format("cluster_blocks: {} is not allowed; allowed: 1 to {}", schedule.cluster_blocks,
                            kMostClusterBlocks));
}

/// A stage belongs to one group along K, and X of a unit takes two.
Result<void> validate_stages(std::string_view field, int stages, int multiple) {
  if (stages >= multiple && stages <= kMostStages && stages % multiple == 0) return {};
  return refuse(fmt::format("{}: {} is not allowed; allowed: a multiple of {}, up to {}", field, stages,
                            multiple, kMostStages));
}

}  // namespace

Result<void> ManyTokens::validate(const KernelSpec& spec, const ManyTokensSchedule& schedule) {
  const TargetTraits& traits = spec.target.traits();
  if (!traits.warpgroup_products) {
    return refuse(
        fmt::format("schedule: {} has no warpgroup products; allowed: another family", traits.name));
  }
  if (auto valid = validate_one_of("tile_rows", schedule.tile_rows, kTileRows); !valid) return valid;
  if (auto valid = validate_tile_rows(spec, schedule.tile_rows); !valid) return valid;
  if (auto valid = validate_one_of("tile_tokens", schedule.tile_tokens, kTileTokens); !valid) return valid;
  if (auto valid = validate_one_of("commit_steps", schedule.commit_steps, kCommitSteps); !valid) return valid;
  if (auto valid = validate_warpgroups(schedule); !valid) return valid;
  if (auto valid = validate_cluster(schedule); !valid) return valid;
  if (auto valid = validate_stages("activation_stages", schedule.activation_stages,
                                   kStagesPerUnit * schedule.k_groups);
      !valid) {
    return valid;
  }
  if (auto valid = validate_stages("weight_stages", schedule.weight_stages, schedule.k_groups); !valid) {
    return valid;
  }
  if (const int bytes = shared_memory(spec, schedule).bytes(); bytes > traits.shared_bytes_per_block) {
    return refuse(fmt::format(
        "schedule: {} bytes of shared memory are needed, {} has {} for a block; take fewer stages, "
        "rows or tokens",
        bytes, traits.name, traits.shared_bytes_per_block));
  }
  return {};
}

}  // namespace lutsmith
