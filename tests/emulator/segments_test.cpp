// Segments of rows with tables of their own, in every family: each emitted source is compiled and executed.

#include <gtest/gtest.h>

#include <algorithm>
#include <string_view>

#include "emulation.h"
#include "must.h"
#include "smallest_blocks.h"

namespace lutsmith::emulator_test {
namespace {

KernelSpec spec_of(std::string_view target, int bits, int group, std::int64_t n, std::int64_t k,
                   int segment_rows) {
  return {.format = {.bits = bits,
                     .group = group,
                     .n = n,
                     .k = k,
                     .dtype = bits % 2 == 0 ? DataType::f16 : DataType::bf16,
                     .offsets = group == 64},
          .m = 64,
          .target = must(Target::parse(target)),
          .residual = bits == 3,
          .segment_rows = segment_rows};
}

// Tiles that are cut in segments that are one tile and more, and that begin in the middle of a partition.
TEST(EmulatedSegments, EveryWidthIsRightForFewTokens) {
  constexpr WeightPath kPaths[] = {WeightPath::registers, WeightPath::async_copy, WeightPath::bulk_copy};
  constexpr int kTokens[] = {1, 8, 16};
  std::size_t number = 0;
  for (const int bits : {1, 2, 3, 4}) {
    for (const int group : {32, 64, kPerChannel}) {
      const int tokens = kTokens[number % 3];
      const int tile_rows = number % 2 == 0 ? 16 : 32;
      const FewTokensSchedule schedule{
          .tile_rows = tile_rows, .tile_tokens = tokens, .warps = 2, .weights = kPaths[number / 3 % 3]};
      if (!has_turn(number++)) continue;
      expect_right_at(spec_of("sm_90a", bits, group, 5 * tile_rows + 8, 392, 32), schedule,
                      tokens == 1 ? 2 : tokens + 3, {0, 1, 3, 7});
    }
  }
}

TEST(EmulatedSegments, EveryWidthIsRightForManyTokens) {
  std::size_t number = 0;
  for (const int bits : {1, 2, 3, 4}) {
    for (const bool warpgroups : {true, false}) {
      const bool two_groups = number / 2 % 2 == 0;
      const Schedule schedule = warpgroups ? Schedule(two_groups ? kTwoWarpgroups : kOneWarpgroup)
                                           : Schedule(two_groups ? kTwoGroups : kOneGroup);
      if (!has_turn(number++)) continue;
      // In two partitions a tile is cut.
      expect_right_at(spec_of(warpgroups ? "sm_90a" : "sm_100a", bits, bits == 4 ? 64 : 128, 264, 264, 128),
                      schedule, 19, {1, 2});
    }
  }
}

// Behind eight tiles of tokens a block comes back to the first rows, and so to the first table.
TEST(EmulatedSegments, TablesAreTurnedBackTo) {
  constexpr std::int64_t kTokens = 8 * 32 + 3;
  expect_right_at(spec_of("sm_90a", 4, 128, 136, 136, 128), kOneWarpgroup, kTokens, {1});
  expect_right_at(spec_of("sm_100a", 4, 128, 136, 136, 128), kOneGroup, kTokens, {1});
}

TEST(EmulatedSegments, ClustersAreRight) {
  ManyTokensSchedule schedule = kOneWarpgroup;
  schedule.cluster_blocks = 2;
  expect_right_at(spec_of("sm_90a", 4, 128, 136, 392, 128), schedule, 19, {1});
}

// Which rows have which table is said by a launch: one kernel serves them all.
TEST(EmulatedSegments, OneKernelServesAllDivisions) {
  const FewTokensSchedule schedule{.tile_rows = 16, .tile_tokens = 8, .warps = 2};
  const KernelSpec spec = spec_of("sm_90a", 4, 128, 120, 264, 16);
  const Source source = must(render(spec, schedule));
  KernelSpec wider = spec;
  wider.segment_rows = 64;
  EXPECT_EQ(source.text, must(render(wider, schedule)).text);
  const auto kernel = must(emulator::EmulatedKernel::compile(host_compiler(), spec, source));
  Problem problem = make_problem(spec, 5);
  const std::vector<std::uint16_t> tables = problem.matrix.table;
  for (const std::vector<std::int64_t>& segments :
       {std::vector<std::int64_t>{120}, {16, 104}, {64, 32, 24}, {32, 16, 64, 8}}) {
    problem.matrix.segments = segments;
    problem.matrix.table.assign(tables.begin(),
                                tables.begin() + static_cast<std::ptrdiff_t>(16 * segments.size()));
    EXPECT_LE(error_of(problem, must(emulate(kernel, source, problem, {.partitions = 3}))),
              tolerance(spec.format.dtype));
  }
}

TEST(EmulatedSegments, TilesThatLieInTwoAreRefused) {
  const auto valid = validate(spec_of("sm_90a", 4, 128, 136, 136, 64), kOneWarpgroup);
  ASSERT_FALSE(valid);
  EXPECT_NE(valid.error().message.find("tile_rows: 128 is not allowed with segment_rows 64"),
            std::string::npos);
}

// Segments of few rows leave the family for few tokens, for any number of tokens.
TEST(EmulatedSegments, EveryGranuleHasSchedules) {
  for (const std::string_view target : {"sm_80", "sm_90a"}) {
    for (const std::int64_t m : {1, 64, 1024}) {
      for (const int rows : kSegmentRows) {
        KernelSpec spec = spec_of(target, 4, 128, 1024, 1024, rows);
        spec.m = m;
        const std::vector<Schedule> found = must(schedules(spec));
        ASSERT_FALSE(found.empty()) << describe(spec);
        for (const Schedule& schedule : found) {
          ASSERT_TRUE(validate(spec, schedule)) << describe(spec) << ", " << describe(schedule);
        }
      }
    }
  }
}

}  // namespace
}  // namespace lutsmith::emulator_test
