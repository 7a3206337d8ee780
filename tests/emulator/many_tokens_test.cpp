// The family for many tokens, instruction by instruction: every tile, every format, shapes that fill nothing,
// every cut of the work.

#include <gtest/gtest.h>

#include <iterator>
#include <string_view>
#include <vector>

#include "codegen/many_tokens/many_tokens.h"
#include "emulation.h"
#include "must.h"

namespace lutsmith::emulator_test {
namespace {

KernelSpec spec_of(int bits, int group, std::int64_t n, std::int64_t k, DataType dtype = DataType::f16,
                   TableKind table = TableKind::scalar) {
  return {.format = {.bits = bits, .group = group, .n = n, .k = k, .dtype = dtype, .table = table},
          .m = 1 << 20,
          .target = must(Target::parse("sm_90a"))};
}

/// The smallest block with two groups along K, all steps of a batch at once, and the smallest with one, in
/// which they are staggered.
constexpr ManyTokensSchedule kTwoGroups{.tile_rows = 128,
                                        .tile_tokens = 32,
                                        .k_groups = 2,
                                        .commit_steps = 4,
                                        .activation_stages = 4,
                                        .weight_stages = 2};
constexpr ManyTokensSchedule kOneGroup{.tile_rows = 128,
                                       .tile_tokens = 32,
                                       .k_groups = 1,
                                       .commit_steps = 1,
                                       .activation_stages = 2,
                                       .weight_stages = 1};

TEST(EmulatedManyTokens, EveryTileIsRight) {
  std::size_t number = 0;
  for (const ManyTokensSchedule& schedule : ManyTokens::candidates(spec_of(4, 128, 128, 392))) {
    if (!has_turn(number++)) continue;
    // Whole; in two parts, of which the own one stays in registers; in three, which are all loaded.
    expect_right_at(spec_of(4, 128, 128, 392), schedule, schedule.tile_tokens - 3, {0, 2, 3});
  }
  EXPECT_GE(number, 10U);
}

TEST(EmulatedManyTokens, EveryFormatIsRight) {
  std::size_t number = 0;
  for (const int bits : {1, 2, 3, 4}) {
    for (const int group : {32, 64, 128, 256, kPerChannel}) {
      const DataType dtype = group == 64 || bits == 3 ? DataType::bf16 : DataType::f16;
      const TableKind table = group == 32 && bits % 2 == 0 ? TableKind::pair : TableKind::scalar;
      if (!has_turn(number++)) continue;
      expect_right_at(spec_of(bits, group, 128, 264, dtype, table), bits % 2 == 0 ? kTwoGroups : kOneGroup,
                      19, {0});
    }
  }
}

TEST(EmulatedManyTokens, RowsAndColumnsThatFillNoPanelAreRight) {
  std::size_t number = 0;
  for (const std::int64_t n : {1, 33, 100, 161}) {
    for (const std::int64_t k : {8, 64, 72, 200}) {
      if (!has_turn(number++)) continue;
      expect_right_at(spec_of(4, n == 100 ? 256 : 128, n, k), number % 2 == 0 ? kTwoGroups : kOneGroup, 5,
                      {0});
    }
  }
}

TEST(EmulatedManyTokens, EveryCutOfTheWorkIsRight) {
  // Two row tiles and two token tiles of five units.
  const KernelSpec spec = spec_of(2, 128, 200, 584);
  for (const ManyTokensSchedule& schedule : {kTwoGroups, kOneGroup}) {
    expect_right_at(spec, schedule, 40, having_turn({1, 2, 3, 4, 5, 7, 8, 12, 20, 21}));
  }
}

TEST(EmulatedManyTokens, BothWaysToARegistersAreRightWithOneGroupAndWithTwo) {
  // Five units: with two groups, one has three and the other two. In seven parts one has no unit.
  ManyTokensSchedule one_group = kOneGroup;
  one_group.commit_steps = 4;
  ManyTokensSchedule two_groups = kTwoGroups;
  two_groups.commit_steps = 1;
  for (const int group : {32, 64, 256}) {
    expect_right_at(spec_of(4, group, 136, 584), one_group, 19, {1, 7});
    expect_right_at(spec_of(4, group, 136, 584), two_groups, 19, {1, 7});
  }
}

TEST(EmulatedManyTokens, TileAfterTileIsRight) {
  // Ten token tiles: more than lie in one group of them.
  expect_right_at(spec_of(2, 128, 136, 136), kOneGroup, 300, {0, 3});
}

/// Two blocks for each tile.
constexpr ManyTokensSchedule clustered(ManyTokensSchedule schedule, int rows = 128, int tokens = 32) {
  schedule.tile_rows = rows;
  schedule.tile_tokens = tokens;
  schedule.cluster_blocks = 2;
  return schedule;
}

// One panel only, so that the second block has none; as many panels as blocks; an odd and an even number of
// them, with and without a ragged end.
TEST(EmulatedManyTokens, ClustersAreRightForEveryNumberOfPanels) {
  std::size_t number = 0;
  for (const std::int64_t k : {8, 128, 136, 256, 384, 520, 768}) {
    for (const ManyTokensSchedule& schedule : {clustered(kOneGroup), clustered(kTwoGroups)}) {
      if (!has_turn(number++)) continue;
      expect_right_at(spec_of(4, 128, 128, k), schedule, 19, {0, 1});
    }
  }
}

TEST(EmulatedManyTokens, EveryCutOfTheWorkOfClustersIsRight) {
  // Two row tiles and two token tiles of nine panels: five units for each of two blocks.
  const KernelSpec spec = spec_of(2, 128, 200, 1096);
  for (const ManyTokensSchedule& schedule : {clustered(kOneGroup), clustered(kTwoGroups)}) {
    expect_right_at(spec, schedule, 40, having_turn({1, 2, 3, 4, 5, 7, 8, 12, 20, 21}));
  }
}

TEST(EmulatedManyTokens, TileAfterTileOfClustersIsRight) {
  expect_right_at(spec_of(2, 128, 136, 136), clustered(kOneGroup), 300, {1, 3});
  expect_right_at(spec_of(2, 128, 136, 392), clustered(kTwoGroups), 100, {1, 3});
}

TEST(EmulatedManyTokens, ClustersAreRightInEveryFormat) {
  std::size_t number = 0;
  for (const int group : {32, 64, 256, kPerChannel}) {
    for (const int bits : {3, 4}) {
      if (!has_turn(number++)) continue;
      const DataType dtype = bits == 3 ? DataType::bf16 : DataType::f16;
      expect_right_at(spec_of(bits, group, 100, 584, dtype),
                      number % 2 == 0 ? clustered(kOneGroup) : clustered(kTwoGroups), 19, {1, 3});
    }
  }
}

// Tiles whose exchange takes several turns, and those with an odd number of pairs of octets for each group,
// which the blocks cannot share equally: of a whole tile, of one of two parts and of one of more.
TEST(EmulatedManyTokens, ClustersAreRightForEveryNumberOfPairs) {
  struct Tile {
    int rows;
    int tokens;
    ManyTokensSchedule schedule;
  };
  constexpr Tile kTiles[] = {
      {128, 32, kTwoGroups},                         // one pair for each group
      {128, 96, kTwoGroups},                         // three
      {128, 128, kOneGroup}, {128, 192, kOneGroup},  // 8 and 4 octets in turns
      {192, 96, kOneGroup},                          // 4 and 2
      {128, 160, kOneGroup},                         // 6 and 4
      {256, 48, kOneGroup},                          // of three pairs, two and one
      {256, 96, kOneGroup},  {128, 256, kOneGroup}, {192, 48, kOneGroup},
  };
  for (std::size_t i = 0; i < std::size(kTiles); ++i) {
    if (!has_turn(i)) continue;
    const Tile& tile = kTiles[i];
    expect_right_at(spec_of(4, 128, tile.rows + 8, 904), clustered(tile.schedule, tile.rows, tile.tokens),
                    tile.tokens - 3, {1, 2, 4, 5, 6});
  }
}

TEST(EmulatedManyTokens, ThreeWarpgroupsAreRight) {
  std::size_t number = 0;
  for (const int tokens : {32, 64, 128, 192}) {
    for (const std::int64_t n : {40, 192, 264}) {
      if (!has_turn(number++)) continue;
      ManyTokensSchedule schedule = kOneGroup;
      schedule.tile_rows = 192;
      schedule.tile_tokens = tokens;
      expect_right_at(spec_of(n == 40 ? 3 : 4, n == 264 ? kPerChannel : 64, n, 392), schedule, tokens - 3,
                      {1, 3});
    }
  }
}

}  // namespace
}  // namespace lutsmith::emulator_test
