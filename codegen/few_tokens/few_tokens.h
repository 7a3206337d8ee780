#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "codegen/kernel_family.h"
#include "lutsmith/codegen.h"

namespace lutsmith {

/// The family of kernels for few tokens: weights are the A operand of mma.sync, looked up in shared memory;
/// all warps multiply, side by side along K (templates/few_tokens/).
struct FewTokens {
  using Schedule = FewTokensSchedule;
  static constexpr std::string_view kTemplate = "templates/few_tokens/kernel.cu";

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
static_assert(KernelFamily<FewTokens>);

namespace few_tokens {

/// Two panels of rows for the X of one: where that is loaded for every tile it is half as much.
constexpr int kWideTileRows = 64;

// The limits of a schedule.
constexpr int kTileRows[] = {16, 32, kWideTileRows};
constexpr int kTileTokens[] = {1, 8, 16, 32};
constexpr int kMostWarps = 16;
constexpr int kMostRingStages = 8;
constexpr int kMostBlocks = 4;  // per multiprocessor
/// Their sums are in registers: of 64 rows 16 tokens, of 32 rows 32.
constexpr int kMostTileElements = 1024;

/// Dynamic shared memory of a block, in bytes.
int shared_bytes(const KernelSpec& spec, const FewTokensSchedule& schedule);

/// Registers that the compiler is expected to take where it may: what the kernel needs, and some to load
/// ahead.
int wanted_registers(const KernelSpec& spec, const FewTokensSchedule& schedule);

/// Blocks that fit on a multiprocessor together, of this launch and those after it: by shared memory, threads
/// and `wanted_registers`.
int resident_blocks(const KernelSpec& spec, const FewTokensSchedule& schedule);

/// Records of 16 rows in a tile.
int records(const FewTokensSchedule& schedule);
/// Octets of tokens in a tile: 8 are the n of one mma.
int token_octets(const FewTokensSchedule& schedule);

}  // namespace few_tokens
}  // namespace lutsmith
