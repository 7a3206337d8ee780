#pragma once

#include <cstdint>
#include <string_view>

#include "mutation.h"

// The problems that mistakes in the device code for many tokens on any target show in.

namespace lutsmith::emulator_test {

/// The smallest block, with as few stages as it can have: 264 k are three units.
struct MultistageExample {
  int group = 128;
  std::int64_t n = 128;
  std::int64_t k = 264;
  int tile_tokens = 32;
  int warp_rows = 32;
  int k_groups = 1;
  int stage_columns = 64;
  int activation_stages = 2;
  WeightPath weights = WeightPath::registers;
  bool scale_sums = false;
  bool dependent_launch = false;
  std::int64_t m = 19;
  int partitions = 1;
  std::int64_t output_padding = 8;
  std::int64_t output_offset = 0;
  bool cancelling = false;  ///< see cancel()
  bool offsets = false;
  int segment_rows = 0;

  friend bool operator==(const MultistageExample&, const MultistageExample&) = default;
};

inline KernelSpec spec_of(const MultistageExample& example) {
  return {.format =
              {.bits = 4, .group = example.group, .n = example.n, .k = example.k, .offsets = example.offsets},
          .m = 1 << 20,
          .target = must(Target::parse("sm_100a")),
          .segment_rows = example.segment_rows};
}

inline MultistageSchedule schedule_of(const MultistageExample& example) {
  return {.tile_rows = 128,
          .tile_tokens = example.tile_tokens,
          .warp_rows = example.warp_rows,
          .k_groups = example.k_groups,
          .stage_columns = example.stage_columns,
          .activation_stages = example.activation_stages,
          .weights = example.weights,
          .weight_stages = 2,
          .scale_sums = example.scale_sums,
          .dependent_launch = example.dependent_launch};
}

inline Problem problem_of(const MultistageExample& example) {
  Problem problem = make_problem(spec_of(example), example.m);
  if (example.cancelling) cancel(problem);
  return problem;
}

inline EmulationOptions options_of(const MultistageExample& example) {
  return {.partitions = example.partitions,
          .output_padding = example.output_padding,
          .output_offset = example.output_offset};
}

}  // namespace lutsmith::emulator_test
