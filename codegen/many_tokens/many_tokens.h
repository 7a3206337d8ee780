#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "codegen/kernel_family.h"
#include "lutsmith/codegen.h"
#include "templates/many_tokens/shared_memory.h"

namespace lutsmith {

/// The family of kernels for many tokens on Hopper: weights are the A operand of wgmma, looked up in shared
/// memory; X comes by tensor copies (templates/many_tokens/).
struct ManyTokens {
  using Schedule = ManyTokensSchedule;
  static constexpr std::string_view kTemplate = "templates/many_tokens/kernel.cu";

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
static_assert(KernelFamily<ManyTokens>);

namespace many_tokens {

// The limits of a schedule.
constexpr int kTileRows[] = {128, 192, 256};
constexpr int kTileTokens[] = {32, 48, 64, 96, 128, 160, 192, 256};
constexpr int kMostGroups = 2;  // along K
constexpr int kMostClusterBlocks = 2;
constexpr int kMostWarpgroups = 4;
constexpr int kCommitSteps[] = {1, 4};
constexpr int kMostStages = 16;

/// Warpgroups that multiply.
int warpgroups(const ManyTokensSchedule& schedule);

SharedMemory shared_memory(const KernelSpec& spec, const ManyTokensSchedule& schedule);

/// fp32 sums of one tile, in bytes: what a partition leaves of a tile that is cut.
constexpr int slot_bytes(int tile_rows, int tile_tokens) { return tile_rows * tile_tokens * 4; }

}  // namespace many_tokens
}  // namespace lutsmith
