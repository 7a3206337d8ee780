// A table for each row, in every family: each emitted source is compiled and executed.

#include <gtest/gtest.h>

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "emulation.h"
#include "must.h"
#include "smallest_blocks.h"

namespace lutsmith::emulator_test {
namespace {

/// A ragged row panel, a ragged column panel and groups that end early.
KernelSpec spec_of(std::string_view target, int bits, int group, std::int64_t n, std::int64_t k) {
  return {.format = {.bits = bits,
                     .group = group,
                     .n = n,
                     .k = k,
                     .dtype = (bits + group / 64) % 2 == 0 ? DataType::f16 : DataType::bf16,
                     .table = TableKind::row,
                     .offsets = group == 64 || (bits == 3 && group == kPerChannel)},
          .m = 64,
          .target = must(Target::parse(target))};
}

// Tiles that are cut, blocks with several tiles, and those that come back to a row tile with other tokens.
TEST(EmulatedRowTables, EveryFormatIsRightForFewTokens) {
  constexpr WeightPath kPaths[] = {WeightPath::registers, WeightPath::async_copy, WeightPath::bulk_copy};
  constexpr int kTokens[] = {1, 8, 16};
  std::size_t number = 0;
  for (const int bits : {1, 2, 3, 4}) {
    for (const int group : {32, 64, 128, kPerChannel}) {
      const int tokens = kTokens[number % 3];
      const FewTokensSchedule schedule{.tile_rows = number % 2 == 0 ? 16 : 32,
                                       .tile_tokens = tokens,
                                       .warps = 2,
                                       .weights = kPaths[number / 3 % 3]};
      if (!has_turn(number++)) continue;
      expect_right_at(spec_of("sm_90a", bits, group, 72, 392), schedule, tokens == 1 ? 2 : tokens + 3,
                      {1, 5});
    }
  }
}

// Short launches look up ahead of their wait.
TEST(EmulatedRowTables, TheFirstUnitIsRightAheadOfTheWait) {
  for (const int tokens : {1, 8}) {
    const FewTokensSchedule schedule{.tile_rows = tokens == 1 ? 32 : 16,
                                     .tile_tokens = tokens,
                                     .warps = 2,
                                     .weights = WeightPath::bulk_copy,
                                     .stages = 2,
                                     .dependent_launch = true};
    expect_right_at(spec_of("sm_90a", 4, 128, 72, 264), schedule, tokens, {2, 5});
  }
}

TEST(EmulatedRowTables, EveryFormatIsRightForManyTokens) {
  std::size_t number = 0;
  for (const int bits : {1, 2, 3, 4}) {
    for (const int group : {32, 64, 128, kPerChannel}) {
      const bool warpgroups = (number + number / 4) % 2 == 0;
      const bool two_groups = number / 2 % 2 == 0;
      const Schedule schedule = warpgroups ? Schedule(two_groups ? kTwoWarpgroups : kOneWarpgroup)
                                           : Schedule(two_groups ? kTwoGroups : kOneGroup);
      if (!has_turn(number++)) continue;
      // Two row tiles, the second with rows of the matrix in a part of it; in two partitions one is cut.
      expect_right_at(spec_of(warpgroups ? "sm_90a" : "sm_100a", bits, group, 168, 264), schedule, 19,
                      {1, 2});
    }
  }
}

TEST(EmulatedRowTables, ClustersAreRight) {
  ManyTokensSchedule schedule = kOneWarpgroup;
  schedule.cluster_blocks = 2;
  expect_right_at(spec_of("sm_90a", 4, 128, 136, 392), schedule, 19, {1});
}

// What a weight is, is told by an identity: a value in the place of another shows, however small they are.
TEST(EmulatedRowTables, IdentityGivesEveryValueOfEveryRow) {
  for (const int bits : {1, 2, 3, 4}) {
    KernelSpec spec = spec_of("sm_90a", bits, kPerChannel, 40, 64);
    spec.format.offsets = false;
    const FewTokensSchedule schedule{.tile_rows = 32, .tile_tokens = 8, .warps = 1};
    const Source source = must(render(spec, schedule));
    const auto kernel = must(emulator::EmulatedKernel::compile(host_compiler(), spec, source));
    Problem problem = make_problem(spec, 1);
    set_identity_rows(problem, 0, spec.format.k);
    const DataType dtype = spec.format.dtype;
    for (std::uint16_t& scale : problem.matrix.scales) scale = to_bits(1.0F, dtype);
    repack(problem);
    const std::vector<std::uint16_t> result = must(emulate(kernel, source, problem));
    for (std::int64_t row = 0; row < spec.format.n; ++row) {
      for (std::int64_t k = 0; k < spec.format.k; ++k) {
        const std::int64_t code = problem.matrix.codes[static_cast<std::size_t>(row * spec.format.k + k)];
        ASSERT_EQ(result[static_cast<std::size_t>(k * spec.format.n + row)],
                  problem.matrix.table[static_cast<std::size_t>((row << bits) + code)])
            << bits << " bits, row " << row << ", k " << k;
      }
    }
  }
}

TEST(EmulatedRowTables, ATableOfTheLaunchIsRefused) {
  const KernelSpec spec = spec_of("sm_90a", 2, 128, 40, 136);
  const Source source = must(render(spec, FewTokensSchedule{.warps = 1}));
  const auto kernel = must(emulator::EmulatedKernel::compile(host_compiler(), spec, source));
  const Problem problem = make_problem(spec, 1);
  std::vector<std::uint16_t> output(40);
  const auto launched =
      kernel.launch({.weights = problem.packed,
                     .activations = problem.activations,
                     .output = std::as_writable_bytes(std::span(output)),
                     .table = problem.matrix.table,
                     .m = 1,
                     .partition = must(partition(source.launch, 1, /*multiprocessors=*/4, /*wanted=*/0))});
  ASSERT_FALSE(launched);
  EXPECT_NE(launched.error().message.find("table: 160 values; those of a table for each row are among"),
            std::string::npos)
      << launched.error().message;
}

}  // namespace
}  // namespace lutsmith::emulator_test
