#pragma once

#include <cstdint>
#include <string_view>

#include "mutation.h"

// The problems that mistakes in the device code for many tokens show in.

namespace lutsmith::emulator_test {

/// The smallest block, with as few stages as it can have, so that every unit uses all of them again: 264 k
/// are three units.
struct ManyTokensExample {
  int bits = 4;
  int group = 128;
  std::int64_t n = 128;
  std::int64_t k = 264;
  int tile_rows = 128;
  int tile_tokens = 32;
  int k_groups = 1;
  int cluster_blocks = 1;
  int commit_steps = 1;
  int activation_stages = 2;
  int weight_stages = 1;
  bool dependent_launch = false;
  std::int64_t m = 19;
  int partitions = 1;
  std::int64_t output_padding = 8;
  std::int64_t output_offset = 0;
  bool cancelling = false;  ///< see cancel()
  bool offsets = false;
  int segment_rows = 0;

  friend bool operator==(const ManyTokensExample&, const ManyTokensExample&) = default;
};

inline KernelSpec spec_of(const ManyTokensExample& example) {
  return {.format = {.bits = example.bits,
                     .group = example.group,
                     .n = example.n,
                     .k = example.k,
                     .offsets = example.offsets},
          .m = 1 << 20,
          .target = must(Target::parse("sm_90a")),
          .segment_rows = example.segment_rows};
}

inline ManyTokensSchedule schedule_of(const ManyTokensExample& example) {
  return {.tile_rows = example.tile_rows,
          .tile_tokens = example.tile_tokens,
          .k_groups = example.k_groups,
          .cluster_blocks = example.cluster_blocks,
          .commit_steps = example.commit_steps,
          .activation_stages = example.activation_stages,
          .weight_stages = example.weight_stages,
          .dependent_launch = example.dependent_launch};
}

inline Problem problem_of(const ManyTokensExample& example) {
  Problem problem = make_problem(spec_of(example), example.m);
  if (example.cancelling) cancel(problem);
  return problem;
}

inline EmulationOptions options_of(const ManyTokensExample& example) {
  return {.partitions = example.partitions,
          .output_padding = example.output_padding,
          .output_offset = example.output_offset};
}

// What the emulator says about named barriers.
constexpr std::string_view kMixedBarriers =
    "is at named barrier .*, where thread .* met others at line .*, with nothing that orders the two";
constexpr std::string_view kNamedBarrierMissing = "deadlock: .*\n(.*\n)*.*waiting for a named barrier";

// Two groups along K, which take the units in turn.
constexpr ManyTokensExample kTwoGroups{
    .k_groups = 2, .commit_steps = 4, .activation_stages = 4, .weight_stages = 2};
// One block has two row tiles, the second of 8 rows.
constexpr ManyTokensExample kTwoTiles{.n = 136};
// Two tiles of five units in three partitions.
constexpr ManyTokensExample kCut{.n = 136, .k = 584, .commit_steps = 4, .partitions = 3};
// Two blocks for a tile of three panels: the last unit of the second is behind them.
constexpr ManyTokensExample kCluster{.k = 384, .cluster_blocks = 2, .commit_steps = 4};
// Rows that fill no tile.
constexpr ManyTokensExample kFewRows{.n = 40, .k = 128, .commit_steps = 4};

}  // namespace lutsmith::emulator_test
