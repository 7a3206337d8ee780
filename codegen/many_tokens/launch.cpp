#include <fmt/format.h>

#include <algorithm>
#include <cstddef>

#include "codegen/many_tokens/many_tokens.h"
#include "codegen/schedule_constants.h"
#include "templates/abi/packed_layout.h"
#include "templates/look_up/pair_table_bytes.h"

namespace lutsmith {
namespace {

using namespace many_tokens;

constexpr int kWarpgroupThreads = 128;

/// Steps of 128 x 128 weights in the time that the parts of a cut tile cost.
constexpr int kFixUpPanels = 5;

}  // namespace

int many_tokens::warpgroups(const ManyTokensSchedule& schedule) {
  return schedule.tile_rows / kWarpgroupRows * schedule.k_groups;
}

SharedMemory many_tokens::shared_memory(const KernelSpec& spec, const ManyTokensSchedule& schedule) {
  return {.weights = packed_layout(spec.format),
          .look_up_bytes = pair_table::shared_bytes(spec.format.bits),
          .tile_rows = schedule.tile_rows,
          .tile_tokens = schedule.tile_tokens,
          .k_groups = schedule.k_groups,
          .activation_stages = schedule.activation_stages,
          .weight_stages = schedule.weight_stages};
}

LaunchRecipe ManyTokens::launch_recipe(const KernelSpec& spec, const ManyTokensSchedule& schedule) {
  // The block that comes last reads all parts of a tile: from here on more of them cost more than they save.
  constexpr int kMostPartBytes = 512 << 10;
  constexpr int kSlots = 2;  // of a partition: for the tile it begins in and the one it ends in
  const int slot = slot_bytes(schedule.tile_rows, schedule.tile_tokens);
  return LaunchRecipe{
      .threads = (warpgroups(schedule) + 1) * kWarpgroupThreads,
      .shared_bytes = shared_memory(spec, schedule).bytes(),
      .tile_rows = schedule.tile_rows,
      .tile_tokens = schedule.tile_tokens,
      .row_tiles = (spec.format.n + schedule.tile_rows - 1) / schedule.tile_rows,
      .steps_per_tile = static_cast<int>(packed_layout(spec.format).column_panels()),
      .blocks_per_multiprocessor = 1,
      .dependent_launch = schedule.dependent_launch,
      .activation_box_tokens = schedule.tile_tokens,
      .most_parts = std::max(1, kMostPartBytes / slot),
      .whole_tiles_only = spec.batch_invariant,
      .fix_up_steps = kFixUpPanels * kWarpgroupRows * 2 / schedule.tile_rows,
      .workspace_per_partition = {.partial_sum_bytes = static_cast<std::size_t>(kSlots * slot),
                                  .arrival_counters = 1}};
}

WorkspaceSize ManyTokens::workspace_size(int multiprocessors) {
  // The largest tile for two warpgroups, and as large a one for four.
  constexpr int kSlots = 2;
  constexpr int kLargest = slot_bytes(128, 256);
  static_assert(kLargest == slot_bytes(256, 128));
  return {.partial_sum_bytes = static_cast<std::size_t>(multiprocessors) * kSlots * kLargest,
          .arrival_counters = multiprocessors};
}

/// Sums, A registers of two batches, codes and scales, and what addresses and look-ups take.
int ManyTokens::estimated_registers(const KernelSpec& spec, const ManyTokensSchedule& schedule) {
  constexpr int kOther = 30;  // no kernel spills up to here; read off ptxas
  const int groups = std::max(1, packed_layout(spec.format).groups_per_record());
  return schedule.tile_tokens / 2 + 8 * schedule.commit_steps + 2 * spec.format.bits + groups + kOther;
}

int ManyTokens::register_limit(const ManyTokensSchedule& schedule) {
  // As the template claims them (kConsumerRegisters): nearly all, and the producers' are the rest.
  return warpgroups(schedule) == kMostWarpgroups ? 112 : 232;
}

std::string ManyTokens::name_part(const ManyTokensSchedule& schedule) {
  return fmt::format("m{}", schedule.tile_tokens);
}

void ManyTokens::set_schedule(KernelTemplate& text, const KernelSpec& /*spec*/,
                              const ManyTokensSchedule& schedule) {
  set_constants(text, schedule);
}

}  // namespace lutsmith
