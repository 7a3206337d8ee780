#include <fmt/format.h>

#include <algorithm>
#include <cstddef>

#include "codegen/multistage/multistage.h"
#include "codegen/row_tables.h"
#include "codegen/schedule_constants.h"
#include "templates/abi/packed_layout.h"
#include "templates/few_tokens/shared_memory.h"
#include "templates/look_up/look_up_bytes.h"

namespace lutsmith {
namespace {

using namespace multistage;

/// Steps of 128 x 128 weights in the time that the parts of a cut tile cost.
constexpr int kFixUpPanels = 10;
constexpr int kSlots = 2;  // of a partition: for the tile it begins in and the one it ends in

}  // namespace

int multistage::records(const MultistageSchedule& schedule) {
  return schedule.warp_rows / layout::kRecordRows;
}

int multistage::warps(const MultistageSchedule& schedule) {
  return schedule.tile_rows / schedule.warp_rows * schedule.k_groups;
}

int multistage::groups_per_unit(const KernelSpec& spec) {
  const PackedLayout weights = packed_layout(spec.format);
  return weights.scales_of_sums() ? 0 : std::max(1, weights.groups_per_record());
}

int multistage::shared_bytes(const KernelSpec& spec, const MultistageSchedule& schedule) {
  const SharedMemory shared{
      .look_up_bytes = look_up_bytes(packed_layout(spec.format), pair_table::kEntryStride),
      .tile_rows = schedule.tile_rows,
      .tile_tokens = schedule.tile_tokens,
      .warp_rows = schedule.warp_rows,
      .k_groups = schedule.k_groups,
      .stage_columns = schedule.stage_columns,
      .activation_stages = schedule.activation_stages};
  const int rings = schedule.weights == WeightPath::registers
                        ? 0
                        : shared_memory::ring_bytes(packed_layout(spec.format), schedule.warp_rows,
                                                    warps(schedule), schedule.weight_stages);
  return shared.rings_offset() + rings;
}

LaunchRecipe Multistage::launch_recipe(const KernelSpec& spec, const MultistageSchedule& schedule) {
  // The block that comes last reads all parts of a tile: from here on more of them cost more than they save.
  constexpr int kMostPartBytes = 256 << 10;
  const int slot = slot_bytes(schedule.tile_rows, schedule.tile_tokens);
  return LaunchRecipe{
      .threads = warps(schedule) * layout::kLanes,
      .shared_bytes = shared_bytes(spec, schedule),
      .tile_rows = schedule.tile_rows,
      .tile_tokens = schedule.tile_tokens,
      .row_tiles = (spec.format.n + schedule.tile_rows - 1) / schedule.tile_rows,
      .steps_per_tile = static_cast<int>(packed_layout(spec.format).column_panels()),
      .blocks_per_multiprocessor = 1,
      .dependent_launch = schedule.dependent_launch,
      .most_parts = std::max(1, kMostPartBytes / slot),
      .whole_tiles_only = spec.batch_invariant,
      .fix_up_steps = kFixUpPanels * 128 / schedule.tile_rows,
      .workspace_per_partition = {.partial_sum_bytes = static_cast<std::size_t>(kSlots * slot),
                                  .arrival_counters = 1}};
}

WorkspaceSize Multistage::workspace_size(int multiprocessors) {
  constexpr int kLargest = slot_bytes(std::ranges::max(kTileRows), std::ranges::max(kTileTokens));
  return {.partial_sum_bytes = static_cast<std::size_t>(multiprocessors) * kSlots * kLargest,
          .arrival_counters = multiprocessors};
}

/// Sums, those of a group beside them, two sets of A registers, X of a vector, weights under way and in use,
/// tables of rows, and what addresses, walks and look-ups take.
int Multistage::estimated_registers(const KernelSpec& spec, const MultistageSchedule& schedule) {
  constexpr int kOther = 48;  // no kernel that was tried spills from here on; read off ptxas
  const int groups = groups_per_unit(spec);
  const int sums = records(schedule) * schedule.tile_tokens / 2;
  const int products = schedule.scale_sums && groups > 0 ? sums : 0;
  const int a = 16 * records(schedule);
  const int x = schedule.tile_tokens / 2;
  const int share = records(schedule) * (2 * spec.format.bits + (spec.format.offsets ? 2 : 1) * groups);
  const int shares = schedule.weights == WeightPath::registers ? schedule.weight_stages : 1;
  const int joining = spec.format.bits < 4 ? 4 * records(schedule) : 0;
  const int tables = records(schedule) * row_table_registers(spec.format);
  return sums + products + a + x + shares * share + joining + tables + kOther;
}

int Multistage::register_limit(const MultistageSchedule& schedule) {
  constexpr int kRegistersPerMultiprocessor = 65536;
  constexpr int kMostOfAThread = 255;
  return std::min(kMostOfAThread, kRegistersPerMultiprocessor / (warps(schedule) * layout::kLanes));
}

std::string Multistage::name_part(const MultistageSchedule& schedule) {
  return fmt::format("s{}", schedule.tile_tokens);
}

void Multistage::set_schedule(KernelTemplate& text, const KernelSpec& /*spec*/,
                              const MultistageSchedule& schedule) {
  set_constants(text, schedule);
}

}  // namespace lutsmith
