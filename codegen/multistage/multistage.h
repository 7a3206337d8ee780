#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "codegen/kernel_family.h"
#include "lutsmith/codegen.h"
#include "templates/multistage/shared_memory.h"

namespace lutsmith {

/// The family of kernels for many tokens on every target: weights are the A operand of mma.sync, looked up in
/// shared memory; X passes through stages there, which all warps of a tile read (templates/multistage/).
struct Multistage {
  using Schedule = MultistageSchedule;
  static constexpr std::string_view kTemplate = "templates/multistage/kernel.cu";

  static Result<void> validate(const KernelSpec& spec, const Schedule& schedule);
  static std::vector<Schedule> candidates(const KernelSpec& spec);
  static double estimated_microseconds(const KernelSpec& spec, const Schedule& schedule, const GpuModel& gpu,
                                       int partitions);
  static int estimated_registers(const KernelSpec& spec, const Schedule& schedule);
  static int register_limit(const Schedule& schedule);
  static LaunchRecipe launch_recipe(const KernelSpec& spec, const Schedule& schedule);
  static WorkspaceSize workspace_size(int multiprocessors);
  static std::string name_part(const Schedule& schedule);
  static void set_schedule(KernelTemplate& text, const KernelSpec& spec, const Schedule& schedule);
};
static_assert(KernelFamily<Multistage>);

namespace multistage {

// The limits of a schedule.
constexpr int kTileRows[] = {128, 256};
constexpr int kTileTokens[] = {32, 48, 64, 96, 128};
constexpr int kWarpRows[] = {16, 32};
constexpr int kMostGroups = 2;  // along K
constexpr int kMostWarps = 16;
constexpr int kStageColumns[] = {64, 128};
constexpr int kMostStages = 8;

int warps(const MultistageSchedule& schedule);
/// Records of 16 rows that a warp has of a unit.
int records(const MultistageSchedule& schedule);

/// Dynamic shared memory of a block, in bytes.
int shared_bytes(const KernelSpec& spec, const MultistageSchedule& schedule);

/// Scales that a row needs in a unit; none where the channel's scale is applied at the end.
int groups_per_unit(const KernelSpec& spec);

/// fp32 sums of one tile, in bytes: what a partition leaves of a tile that is cut.
constexpr int slot_bytes(int tile_rows, int tile_tokens) { return tile_rows * tile_tokens * 4; }

}  // namespace multistage
}  // namespace lutsmith
