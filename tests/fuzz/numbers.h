#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

#include "lutsmith/codegen.h"
#include "lutsmith/kernel_spec.h"

namespace lutsmith::fuzz {

/// A spec and a schedule as they lie in an input, allowed or not. What is chosen from a list is counted
/// around its end.
struct Numbers {
  std::int64_t n = 0;
  std::int64_t k = 0;
  std::int64_t m = 0;
  std::int32_t bits = 0;
  std::int32_t group = 0;
  std::int32_t tile_rows = 0;
  std::int32_t tile_tokens = 0;
  std::int32_t warps = 0;
  std::int32_t stages = 0;
  std::int32_t blocks_per_multiprocessor = 0;
  std::uint8_t target = 0;
  std::uint8_t weights = 0;
  std::uint8_t format = 0;            ///< bit 0: bf16, bit 1: table of pairs
  std::uint8_t dependent_launch = 0;  ///< bit 0; bits 1 and 2: the family of the schedule
};
static_assert(std::has_unique_object_representations_v<Numbers>, "every byte of an input means something");

inline KernelSpec spec_of(const Numbers& numbers) {
  const std::span<const TargetTraits> targets = Target::all();
  return {.format = {.bits = numbers.bits,
                     .group = numbers.group,
                     .n = numbers.n,
                     .k = numbers.k,
                     .dtype = (numbers.format & 1U) != 0 ? DataType::bf16 : DataType::f16,
                     .table = (numbers.format & 2U) != 0 ? TableKind::pair : TableKind::scalar},
          .m = numbers.m,
          .target = Target::parse(targets[numbers.target % targets.size()].name).value()};
}

/// Of the family that bits 1 and 2 of `dependent_launch` name; each takes the numbers for its own fields.
inline Schedule schedule_of(const Numbers& numbers) {
  const bool dependent_launch = (numbers.dependent_launch & 1U) != 0;
  if ((numbers.dependent_launch & 4U) != 0) {
    return MultistageSchedule{.tile_rows = numbers.tile_rows,
                              .tile_tokens = numbers.tile_tokens,
                              .warp_rows = numbers.warps,
                              .k_groups = numbers.blocks_per_multiprocessor & 3,
                              .stage_columns = numbers.blocks_per_multiprocessor & ~3,
                              .activation_stages = numbers.weights,
                              .weights = static_cast<WeightPath>(numbers.weights % 3),
                              .weight_stages = numbers.stages,
                              .scale_sums = (numbers.dependent_launch & 8U) != 0,
                              .dependent_launch = dependent_launch};
  }
  if ((numbers.dependent_launch & 2U) != 0) {
    return ManyTokensSchedule{.tile_rows = numbers.tile_rows,
                              .tile_tokens = numbers.tile_tokens,
                              .k_groups = numbers.warps,
                              .commit_steps = numbers.stages,
                              .activation_stages = numbers.blocks_per_multiprocessor,
                              .weight_stages = numbers.weights,
                              .dependent_launch = dependent_launch};
  }
  return FewTokensSchedule{.tile_rows = numbers.tile_rows,
                           .tile_tokens = numbers.tile_tokens,
                           .warps = numbers.warps,
                           .weights = static_cast<WeightPath>(numbers.weights % 3),
                           .stages = numbers.stages,
                           .blocks_per_multiprocessor = numbers.blocks_per_multiprocessor,
                           .dependent_launch = dependent_launch};
}

}  // namespace lutsmith::fuzz
