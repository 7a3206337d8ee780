#include <fmt/format.h>

#include <algorithm>
#include <cstddef>

#include "codegen/many_tokens/many_tokens.h"
#include "codegen/row_tables.h"
#include "codegen/schedule_constants.h"
#include "templates/abi/packed_layout.h"
#include "templates/look_up/look_up_bytes.h"

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
          .look_up_bytes = look_up_bytes(packed_layout(spec.format), pair_table::kEntryStride),
          .tile_rows = schedule.tile_rows,
          .tile_tokens = schedule.tile_tokens,
          .k_groups = schedule.k_groups,
          .cluster_blocks = schedule.cluster_blocks,
          .activation_stages = schedule.activation_stages,
          .weight_stages = schedule.weight_stages};
}

LaunchRecipe ManyTokens::launch_recipe(const KernelSpec& spec, const ManyTokensSchedule& schedule) {
  // The block that comes last reads all parts of a tile, or a cluster's block those of its half: from here on
  // more of them cost more than they save.
  constexpr int kMostPartBytes = 512 << 10;
  constexpr int kSlots = 2;  // of a partition: for the tile it begins in and the one it ends in
  const int slot = slot_bytes(schedule.tile_rows, schedule.tile_tokens);
  const int blocks = schedule.cluster_blocks;
  const int panels = static_cast<int>(packed_layout(spec.format).column_panels());
  return LaunchRecipe{
      .threads = (warpgroups(schedule) + 1) * kWarpgroupThreads,
      .shared_bytes = shared_memory(spec, schedule).bytes(),
      .tile_rows = schedule.tile_rows,
      .tile_tokens = schedule.tile_tokens,
      .row_tiles = (spec.format.n + schedule.tile_rows - 1) / schedule.tile_rows,
      .steps_per_tile = (panels + blocks - 1) / blocks,
      .blocks_per_multiprocessor = 1,
      .cluster_blocks = blocks,
      .dependent_launch = schedule.dependent_launch,
      .activation_box_tokens = schedule.tile_tokens,
      .most_parts = std::max(1, kMostPartBytes * blocks / slot),
      .whole_tiles_only = spec.batch_invariant,
      .fix_up_steps = kFixUpPanels * kWarpgroupRows * 2 / schedule.tile_rows,
      .workspace_per_partition = {.partial_sum_bytes = static_cast<std::size_t>(kSlots * slot),
                                  .arrival_counters = blocks}};
}

WorkspaceSize ManyTokens::workspace_size(int multiprocessors) {
  // The largest tile, which three warpgroups have; those of two and of four are smaller.
  constexpr int kSlots = 2;
  constexpr int kLargest = slot_bytes(192, 192);
  static_assert(kLargest > slot_bytes(128, 256) && kLargest > slot_bytes(256, 128));
  return {.partial_sum_bytes = static_cast<std::size_t>(multiprocessors) * kSlots * kLargest,
          .arrival_counters = multiprocessors};
}

/// Sums, A registers of two batches and the values of one, codes and scales, tables of rows, and what
/// addresses and look-ups take.
int ManyTokens::estimated_registers(const KernelSpec& spec, const ManyTokensSchedule& schedule) {
  constexpr int kOther = 24;  // no kernel spills up to here; read off ptxas
  const int groups = std::max(1, packed_layout(spec.format).groups_per_record());
  const int values = schedule.commit_steps == 1 ? 4 : 0;     // of those on the way to A registers
  const int words = (spec.format.offsets ? 4 : 2) * groups;  // of scales and offsets, each of two units
  return schedule.tile_tokens / 2 + 8 * schedule.commit_steps + values + 2 * spec.format.bits + words +
         row_table_registers(spec.format) + kOther;
}

int ManyTokens::register_limit(const ManyTokensSchedule& schedule) {
  // As the template claims them (kConsumerRegisters): nearly all, and the producers' are the rest.
  constexpr int kLimits[] = {232, 232, 160, 112};
  return kLimits[warpgroups(schedule) - 1];
}

std::string ManyTokens::name_part(const ManyTokensSchedule& schedule) {
  return fmt::format("m{}", schedule.tile_tokens);
}

void ManyTokens::set_schedule(KernelTemplate& text, const KernelSpec& /*spec*/,
                              const ManyTokensSchedule& schedule) {
  set_constants(text, schedule);
}

}  // namespace lutsmith
