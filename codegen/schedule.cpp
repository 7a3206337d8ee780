#include <fmt/format.h>

#include <algorithm>

#include "codegen/resources.h"
#include "core/result.h"
#include "lutsmith/codegen.h"
#include "templates/abi/packed_layout.h"
#include "templates/few_tokens/shared_memory.h"
#include "templates/look_up/pair_table_bytes.h"

namespace lutsmith {
namespace {

constexpr int kMaxWarps = 16;
constexpr int kMaxRingStages = 8;

Result<void> validate_stages(const Schedule& schedule) {
  const int most = schedule.weights == WeightPath::registers ? 3 : kMaxRingStages;
  if (schedule.stages < 2 || schedule.stages > most) {
    return refuse(fmt::format("stages: {} is not allowed with weights by {}; allowed: 2 to {}",
                              schedule.stages, to_string(schedule.weights), most));
  }
  return {};
}

Result<void> validate_features(const TargetTraits& traits, const Schedule& schedule) {
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

std::string_view to_string(WeightPath path) {
  switch (path) {
    case WeightPath::registers:
      return "registers";
    case WeightPath::async_copy:
      return "async_copy";
    case WeightPath::bulk_copy:
      return "bulk_copy";
  }
  return "unknown";
}

Result<WeightPath> parse_weight_path(std::string_view name) {
  for (const WeightPath path : {WeightPath::registers, WeightPath::async_copy, WeightPath::bulk_copy}) {
    if (to_string(path) == name) return path;
  }
  return refuse(fmt::format("weights: '{}' is not known; allowed: registers, async_copy, bulk_copy", name));
}

std::string describe(const Schedule& schedule) {
  return fmt::format("rows {}, tokens {}, warps {}, {} x{}, {} block{}/SM{}", schedule.tile_rows,
                     schedule.tile_tokens, schedule.warps, to_string(schedule.weights), schedule.stages,
                     schedule.blocks_per_multiprocessor, schedule.blocks_per_multiprocessor == 1 ? "" : "s",
                     schedule.dependent_launch ? ", dependent launch" : "");
}

Result<void> validate(const KernelSpec& spec, const Schedule& schedule) {
  if (Result<void> valid = validate(spec); !valid) return valid;
  if (schedule.tile_rows != 16 && schedule.tile_rows != 32) {
    return refuse(fmt::format("tile_rows: {} is not allowed; allowed: 16, 32", schedule.tile_rows));
  }
  if (schedule.tile_tokens != 1 && schedule.tile_tokens != 8 && schedule.tile_tokens != 16) {
    return refuse(fmt::format("tile_tokens: {} is not allowed; allowed: 1, 8, 16", schedule.tile_tokens));
  }
  if (schedule.warps < 1 || schedule.warps > kMaxWarps) {
    return refuse(fmt::format("warps: {} is not allowed; allowed: 1 to {}", schedule.warps, kMaxWarps));
  }
  if (Result<void> valid = validate_stages(schedule); !valid) return valid;
  const TargetTraits& traits = spec.target.traits();
  const int threads = schedule.warps * layout::kLanes;
  const int max_blocks = std::min(4, traits.threads_per_multiprocessor / threads);
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

int shared_bytes(const KernelSpec& spec, const Schedule& schedule) {
  const int rings = schedule.weights == WeightPath::registers
                        ? 0
                        : shared_memory::ring_bytes(packed_layout(spec.format), schedule.tile_rows,
                                                    schedule.warps, schedule.stages);
  return shared_memory::ring_offset(pair_table::shared_bytes(spec.format.bits), schedule.tile_rows,
                                    schedule.tile_tokens, schedule.warps) +
         rings;
}

LaunchRecipe launch_recipe(const KernelSpec& spec, const Schedule& schedule) {
  const std::int64_t columns = packed_layout(spec.format).column_blocks();
  return LaunchRecipe{.threads = schedule.warps * layout::kLanes,
                      .shared_bytes = shared_bytes(spec, schedule),
                      .tile_rows = schedule.tile_rows,
                      .tile_tokens = schedule.tile_tokens,
                      .row_tiles = (spec.format.n + schedule.tile_rows - 1) / schedule.tile_rows,
                      .steps_per_tile = static_cast<int>((columns + schedule.warps - 1) / schedule.warps),
                      .blocks_per_multiprocessor = schedule.blocks_per_multiprocessor,
                      .dependent_launch = schedule.dependent_launch};
}

}  // namespace lutsmith
