// The family for many tokens, instruction by instruction: every tile, every format, shapes that fill nothing,
// every cut of the work.

#include <gtest/gtest.h>

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

/// The smallest block with two groups along K, and the smallest with one.
constexpr ManyTokensSchedule kTwoGroups{.tile_rows = 128,
                                        .tile_tokens = 32,
                                        .k_groups = 2,
                                        .commit_steps = 4,
                                        .activation_stages = 4,
                                        .weight_stages = 2};
constexpr ManyTokensSchedule kOneGroup{.tile_rows = 128,
                                       .tile_tokens = 32,
                                       .k_groups = 1,
                                       .commit_steps = 2,
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
    expect_right_at(spec, schedule, 40, {1, 2, 3, 4, 5, 7, 8, 12, 20, 21});
  }
}

TEST(EmulatedManyTokens, TileAfterTileIsRight) {
  // Ten token tiles: more than lie in one group of them.
  expect_right_at(spec_of(2, 128, 136, 136), kOneGroup, 300, {0, 3});
}

}  // namespace
}  // namespace lutsmith::emulator_test
