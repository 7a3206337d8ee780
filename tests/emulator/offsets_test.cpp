// Formats with offsets, in every family: each emitted source is compiled and executed.

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <string_view>
#include <vector>

#include "emulation.h"
#include "must.h"
#include "nearest.h"
#include "smallest_blocks.h"

namespace lutsmith::emulator_test {
namespace {

KernelSpec spec_of(std::string_view target, int bits, int group, std::int64_t n, std::int64_t k,
                   DataType dtype = DataType::f16, TableKind table = TableKind::scalar) {
  return {.format =
              {.bits = bits, .group = group, .n = n, .k = k, .dtype = dtype, .table = table, .offsets = true},
          .m = 64,
          .target = must(Target::parse(target))};
}

/// A ragged row panel, a ragged column panel and groups that end early.
KernelSpec every_format(std::string_view target, int bits, int group) {
  const DataType dtype = group == 64 || bits == 3 ? DataType::bf16 : DataType::f16;
  const TableKind table = group == 32 && bits % 2 == 0 ? TableKind::pair : TableKind::scalar;
  return spec_of(target, bits, group, 40, 392, dtype, table);
}

/// What X = identity gives, for `expected(scale, value, offset)` of every weight.
template <class Expected>
void expect_weights(const KernelSpec& spec, const Schedule& schedule, const Expected& expected) {
  SCOPED_TRACE(describe(spec) + ", " + describe(schedule));
  const Source source = must(render(spec, schedule));
  const auto kernel = must(emulator::EmulatedKernel::compile(host_compiler(), spec, source));
  Problem problem = make_problem(spec, 1);
  set_identity_rows(problem, 0, spec.format.k);
  const std::vector<std::uint16_t> result = must(emulate(kernel, source, problem));
  const DataType dtype = spec.format.dtype;
  const std::int64_t groups = groups_per_row(spec.format.group, spec.format.k);
  for (std::int64_t k = 0; k < spec.format.k; ++k) {
    for (std::int64_t n = 0; n < spec.format.n; ++n) {
      const auto code = problem.matrix.codes[static_cast<std::size_t>(n * spec.format.k + k)];
      const auto group = static_cast<std::size_t>(
          n * groups + (spec.format.group == kPerChannel ? 0 : k / spec.format.group));
      const std::uint16_t weight = expected(from_bits(problem.matrix.scales[group], dtype),
                                            from_bits(problem.matrix.table[code], dtype),
                                            from_bits(problem.matrix.offsets[group], dtype));
      ASSERT_EQ(result[static_cast<std::size_t>(k * spec.format.n + n)], weight)
          << "row " << n << ", k " << k;
    }
  }
}

TEST(EmulatedOffsets, EveryFormatIsRightForFewTokens) {
  constexpr WeightPath kPaths[] = {WeightPath::registers, WeightPath::async_copy, WeightPath::bulk_copy};
  constexpr int kTokens[] = {1, 8, 16};
  std::size_t number = 0;
  for (const int bits : {1, 2, 3, 4}) {
    for (const int group : {32, 64, 128, 256, kPerChannel}) {
      const int tokens = kTokens[number % 3];
      const FewTokensSchedule schedule{.tile_rows = number % 2 == 0 ? 16 : 32,
                                       .tile_tokens = tokens,
                                       .warps = 2,
                                       .weights = kPaths[number / 3 % 3]};
      if (!has_turn(number++)) continue;
      expect_right_at(every_format("sm_90a", bits, group), schedule, tokens == 1 ? 2 : tokens - 3, {1, 3});
    }
  }
}

// The sums are in fp32: of an identity one fused multiplication and addition is left, which is rounded to
// fp32 and then to 16 bits.
TEST(EmulatedOffsets, IdentityGivesWeightsRoundedByWayOfFloatsForFewTokens) {
  for (const int tokens : {1, 8}) {
    for (const int group : {32, 128, kPerChannel}) {
      const DataType dtype = group == 128 ? DataType::bf16 : DataType::f16;
      expect_weights(spec_of("sm_90a", 4, group, 40, 136, dtype),
                     FewTokensSchedule{.tile_rows = 32, .tile_tokens = tokens, .warps = 2},
                     [&](float scale, float value, float offset) {
                       return to_bits(std::fmaf(scale, value, offset), dtype);
                     });
    }
  }
}

// Every format once, in one of the two families: they read weights alike.
TEST(EmulatedOffsets, EveryFormatIsRightForManyTokens) {
  std::size_t number = 0;
  for (const int bits : {1, 2, 3, 4}) {
    for (const int group : {32, 64, 128, 256, kPerChannel}) {
      if (!has_turn(number++)) continue;
      const bool warpgroups = number % 2 == 0;
      const bool two_groups = number % 3 == 0;
      const Schedule schedule = warpgroups ? Schedule(two_groups ? kTwoWarpgroups : kOneWarpgroup)
                                           : Schedule(two_groups ? kTwoGroups : kOneGroup);
      // In two partitions the tiles are cut.
      expect_right_at(every_format(warpgroups ? "sm_90a" : "sm_100a", bits, group), schedule, 19, {0, 2});
    }
  }
}

// A tile of a cluster whose second block has no panel of its own at the end.
TEST(EmulatedOffsets, ClustersAreRight) {
  ManyTokensSchedule schedule = kOneWarpgroup;
  schedule.cluster_blocks = 2;
  for (const int group : {256, kPerChannel}) {
    expect_right_at(spec_of("sm_90a", 4, group, 136, 392), schedule, 19, {0});
  }
}

// Where weights are made before they are multiplied, an identity gives them as they are.
TEST(EmulatedOffsets, IdentityGivesWeightsRoundedOnceForManyTokens) {
  for (const int group : {32, kPerChannel}) {
    const DataType dtype = group == 32 ? DataType::bf16 : DataType::f16;
    const auto once = [&](float scale, float value, float offset) {
      return nearest(static_cast<double>(scale) * value + offset, dtype);
    };
    expect_weights(spec_of("sm_90a", 4, group, 40, 136, dtype), kOneWarpgroup, once);
    expect_weights(spec_of("sm_100a", 4, group, 40, 136, dtype), kOneGroup, once);
  }
}

TEST(EmulatedOffsets, ScaledSumsAreRefused) {
  MultistageSchedule schedule = kOneGroup;
  schedule.scale_sums = true;
  const auto valid = validate(spec_of("sm_100a", 4, 128, 40, 136), schedule);
  ASSERT_FALSE(valid);
  EXPECT_NE(valid.error().message.find("scale_sums: on is not allowed with offsets"), std::string::npos);
}

}  // namespace
}  // namespace lutsmith::emulator_test
