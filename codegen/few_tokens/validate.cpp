#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "codegen/few_tokens/few_tokens.h"
#include "codegen/validate_field.h"
#include "core/result.h"
#include "templates/abi/packed_layout.h"

namespace lutsmith {
namespace {

using namespace few_tokens;

Result<void> validate_tile(const FewTokensSchedule& schedule) {
  if (auto valid = validate_one_of("tile_rows", schedule.tile_rows, kTileRows); !valid) return valid;
  if (auto valid = validate_one_of("tile_tokens", schedule.tile_tokens, kTileTokens); !valid) return valid;
  if (schedule.tile_rows == kWideTileRows && (schedule.tile_tokens == 1 || schedule.tile_tokens > 16)) {
    return refuse(fmt::format(
        "tile_rows: {} is not allowed with tiles of {}; allowed: with 8 or 16 tokens", schedule.tile_rows,
        schedule.tile_tokens == 1 ? "1 token" : fmt::format("{} tokens", schedule.tile_tokens)));
  }
  if (schedule.warps < 1 || schedule.warps > kMostWarps) {
    return refuse(fmt::format("warps: {} is not allowed; allowed: 1 to {}", schedule.warps, kMostWarps));
  }
  return {};
}

Result<void> validate_stages(const FewTokensSchedule& schedule) {
  const int most = schedule.weights == WeightPath::registers ? 3 : kMostRingStages;
  if (schedule.stages < 2 || schedule.stages > most) {
    return refuse(fmt::format("stages: {} is not allowed with weights by {}; allowed: 2 to {}",
                              schedule.stages, to_string(schedule.weights), most));
  }
  return {};
}

Result<void> validate_features(const TargetTraits& traits, const FewTokensSchedule& schedule) {
  if (schedule.weights == WeightPath::bulk_copy && !traits.bulk_copy) {
    return refuse(fmt::format("weights: {} has no bulk copies; allowed: registers, async_copy", traits.name));
  }
  if (schedule.dependent_launch && !traits.dependent_launch) {
    return refuse(
        fmt::format("dependent_launch: {} has no programmatic dependent launch; allowed: off", traits.name));
  }
  return {};
}

}  // namespace

Result<void> FewTokens::validate(const KernelSpec& spec, const FewTokensSchedule& schedule) {
  if (Result<void> valid = validate_tile(schedule); !valid) return valid;
  if (schedule.tile_rows == kWideTileRows && spec.format.row_tables()) {
    return refuse(fmt::format(
        "tile_rows: {} is not allowed with a table for each row, which are in registers; allowed: 16, 32",
        schedule.tile_rows));
  }
  if (Result<void> valid = validate_tile_rows(spec, schedule.tile_rows); !valid) return valid;
  if (Result<void> valid = validate_stages(schedule); !valid) return valid;
  const TargetTraits& traits = spec.target.traits();
  const int threads = schedule.warps * layout::kLanes;
  const int max_blocks = std::min(kMostBlocks, traits.threads_per_multiprocessor / threads);
  if (schedule.blocks_per_multiprocessor < 1 || schedule.blocks_per_multiprocessor > max_blocks) {
    return refuse(
        fmt::format("blocks_per_multiprocessor: {} is not allowed; allowed for {} warps on {}: 1 to {}",
                    schedule.blocks_per_multiprocessor, schedule.warps, traits.name, max_blocks));
  }
  if (Result<void> valid = validate_features(traits, schedule); !valid) return valid;
  if (const int bytes = shared_bytes(spec, schedule); bytes > traits.shared_bytes_per_block) {
    return refuse(
        fmt::format("schedule: {} bytes of shared memory are needed, {} has {} for a block; take "
                    "fewer warps, stages, rows or tokens",
                    bytes, traits.name, traits.shared_bytes_per_block));
  }
  return {};
}

}  // namespace lutsmith
