#include <algorithm>
#include <cstddef>

#include "codegen/few_tokens/few_tokens.h"
#include "templates/abi/packed_layout.h"
#include "templates/few_tokens/shared_memory.h"
#include "templates/look_up/look_up_bytes.h"

namespace lutsmith {
namespace {

/// Partial sums of a partition: two slots of a tile, for the tile it begins in and the one it ends in.
constexpr std::size_t partial_sum_bytes(int tile_rows, int tile_tokens) {
  constexpr std::size_t kSlots = 2;
  return kSlots * static_cast<std::size_t>(tile_rows) * static_cast<std::size_t>(tile_tokens) * sizeof(float);
}

int ceil_div(int a, int b) { return (a + b - 1) / b; }

}  // namespace

int few_tokens::records(const FewTokensSchedule& schedule) {
  return schedule.tile_rows / layout::kRecordRows;
}

int few_tokens::token_octets(const FewTokensSchedule& schedule) { return (schedule.tile_tokens + 7) / 8; }

int few_tokens::shared_bytes(const KernelSpec& spec, const FewTokensSchedule& schedule) {
  const PackedLayout weights = packed_layout(spec.format);
  const int rings =
      schedule.weights == WeightPath::registers
          ? 0
          : shared_memory::ring_bytes(weights, schedule.tile_rows, schedule.warps, schedule.stages);
  const int look_up = look_up_bytes(weights, shared_memory::entry_stride(schedule.tile_tokens));
  return shared_memory::ring_offset(look_up, schedule.tile_rows, schedule.tile_tokens, schedule.warps) +
         rings;
}

LaunchRecipe FewTokens::launch_recipe(const KernelSpec& spec, const FewTokensSchedule& schedule) {
  const int columns = static_cast<int>(packed_layout(spec.format).column_panels());
  const int records_per_step = schedule.warps * few_tokens::records(schedule);
  return LaunchRecipe{.threads = schedule.warps * layout::kLanes,
                      .shared_bytes = few_tokens::shared_bytes(spec, schedule),
                      .tile_rows = schedule.tile_rows,
                      .tile_tokens = schedule.tile_tokens,
                      .row_tiles = (spec.format.n + schedule.tile_rows - 1) / schedule.tile_rows,
                      .steps_per_tile = ceil_div(columns, schedule.warps),
                      .blocks_per_multiprocessor = schedule.blocks_per_multiprocessor,
                      .dependent_launch = schedule.dependent_launch,
                      .idle_blocks = schedule.dependent_launch,
                      .fix_up_steps = ceil_div(spec.target.traits().costs.fix_up_records, records_per_step),
                      .workspace_per_partition = {
                          .partial_sum_bytes = partial_sum_bytes(schedule.tile_rows, schedule.tile_tokens),
                          .arrival_counters = 1}};
}

WorkspaceSize FewTokens::workspace_size(int multiprocessors) {
  constexpr std::size_t kLargest = partial_sum_bytes(few_tokens::kMostTileElements, 1);
  constexpr std::size_t kSmallest =
      partial_sum_bytes(std::ranges::min(few_tokens::kTileRows), std::ranges::min(few_tokens::kTileTokens));
  const int partitions = few_tokens::kMostBlocks * multiprocessors;
  // Of smaller tiles more partitions fit, and each has a counter.
  return {.partial_sum_bytes = static_cast<std::size_t>(partitions) * kLargest,
          .arrival_counters = partitions * static_cast<int>(kLargest / kSmallest)};
}

}  // namespace lutsmith
