// The family for many tokens on any target, instruction by instruction: every tile, every format, shapes that
// fill nothing, every cut of the work.

#include <gtest/gtest.h>

#include <string_view>
#include <vector>

#include "codegen/multistage/multistage.h"
#include "emulation.h"
#include "must.h"

namespace lutsmith::emulator_test {
namespace {

KernelSpec spec_of(std::string_view target, int bits, int group, std::int64_t n, std::int64_t k,
                   DataType dtype = DataType::f16, TableKind table = TableKind::scalar) {
  return {.format = {.bits = bits, .group = group, .n = n, .k = k, .dtype = dtype, .table = table},
          .m = 64,
          .target = must(Target::parse(target))};
}

/// The smallest blocks: with two groups along K and a ring of weights, and with one and weights in registers.
constexpr MultistageSchedule kTwoGroups{.tile_rows = 128,
                                        .tile_tokens = 32,
                                        .warp_rows = 32,
                                        .k_groups = 2,
                                        .stage_columns = 128,
                                        .activation_stages = 2,
                                        .weights = WeightPath::bulk_copy,
                                        .weight_stages = 2,
                                        .scale_sums = true};
constexpr MultistageSchedule kOneGroup{.tile_rows = 128,
                                       .tile_tokens = 32,
                                       .warp_rows = 32,
                                       .k_groups = 1,
                                       .stage_columns = 64,
                                       .activation_stages = 3};

TEST(EmulatedMultistage, EveryTileIsRight) {
  std::size_t number = 0;
  for (const std::string_view target : {"sm_80", "sm_120a"}) {
    const KernelSpec spec = spec_of(target, 4, 128, 160, 392);
    for (const MultistageSchedule& schedule : Multistage::candidates(spec)) {
      if (!has_turn(number++)) continue;
      expect_right_at(spec, schedule, schedule.tile_tokens - 3, {0});
    }
  }
  EXPECT_GE(number, 15U);
}

TEST(EmulatedMultistage, EveryFormatIsRight) {
  std::size_t number = 0;
  for (const int bits : {1, 2, 3, 4}) {
    for (const int group : {32, 64, 128, 256, kPerChannel}) {
      const DataType dtype = group == 64 || bits == 3 ? DataType::bf16 : DataType::f16;
      const TableKind table = group == 32 && bits % 2 == 0 ? TableKind::pair : TableKind::scalar;
      const KernelSpec spec = spec_of("sm_100a", bits, group, 160, 392, dtype, table);
      MultistageSchedule schedule = bits % 2 == 0 ? kTwoGroups : kOneGroup;
      for (const bool scale_sums : {false, true}) {
        if (scale_sums && group == kPerChannel) continue;  // no scales in the sums
        if (!has_turn(number++)) continue;
        schedule.scale_sums = scale_sums;
        schedule.warp_rows = scale_sums == (group == 128) ? 16 : 32;
        expect_right_at(spec, schedule, 19, {0});
      }
    }
  }
}

TEST(EmulatedMultistage, RowsAndColumnsThatFillNoPanelAreRight) {
  std::size_t number = 0;
  for (const std::int64_t n : {1, 33, 100, 161}) {
    for (const std::int64_t k : {8, 64, 72, 200}) {
      if (!has_turn(number++)) continue;
      MultistageSchedule schedule = number % 2 == 0 ? kTwoGroups : kOneGroup;
      schedule.warp_rows = number % 3 == 0 ? 16 : 32;
      expect_right_at(spec_of("sm_100a", 4, n == 100 ? 256 : 128, n, k), schedule, 5, {0});
    }
  }
}

TEST(EmulatedMultistage, EveryCutOfTheWorkIsRight) {
  // Two row tiles and two token tiles of five units.
  const KernelSpec spec = spec_of("sm_100a", 2, 128, 200, 584);
  for (const MultistageSchedule& schedule : {kTwoGroups, kOneGroup}) {
    expect_right_at(spec, schedule, 40, having_turn({1, 2, 3, 4, 5, 7, 8, 12, 20, 21}));
  }
}

TEST(EmulatedMultistage, TileAfterTileIsRight) {
  // Ten token tiles: more than lie in one group of them.
  expect_right_at(spec_of("sm_80", 2, 128, 136, 136), kOneGroup, 300, {0, 3});
}

}  // namespace
}  // namespace lutsmith::emulator_test
