// Every schedule of one format, and shapes and tokens that fill nothing.

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "emulation.h"
#include "must.h"

namespace lutsmith::emulator_test {
namespace {

KernelSpec spec_of(int bits, int group, std::int64_t n, std::int64_t k, std::int64_t m = 1,
                   std::string_view target = "sm_90a") {
  return {.format = {.bits = bits, .group = group, .n = n, .k = k},
          .m = m,
          .target = must(Target::parse(target))};
}

class EmulatedPaths : public testing::TestWithParam<WeightPath> {};

// 9 units of 128 along K: the last step of a tile is ragged for every number of warps but 1, 3 and 9.
TEST_P(EmulatedPaths, EveryNumberOfWarpsIsRight) {
  const KernelSpec spec = spec_of(4, 128, 24, 1096);
  for (int warps = 1; warps <= 16; ++warps) {
    expect_right(spec,
                 FewTokensSchedule{.tile_rows = warps % 2 == 0 ? 32 : 16,
                                   .tile_tokens = warps % 3 == 0 ? 1 : 8,
                                   .warps = warps,
                                   .weights = GetParam(),
                                   .dependent_launch = warps % 4 == 0},
                 1);
  }
}

TEST_P(EmulatedPaths, EveryNumberOfStagesIsRight) {
  const KernelSpec spec = spec_of(3, 64, 40, 1288);
  int ran = 0;
  for (int stages = 2; stages <= 8; ++stages) {
    const FewTokensSchedule schedule{.tile_rows = 16, .warps = 2, .weights = GetParam(), .stages = stages};
    if (!validate(spec, schedule)) continue;
    expect_right(spec, schedule, 2);
    ++ran;
  }
  EXPECT_EQ(ran, GetParam() == WeightPath::registers ? 2 : 7);
}

TEST_P(EmulatedPaths, EveryNumberOfTokensIsRight) {
  const KernelSpec spec = spec_of(2, 256, 24, 264);
  const std::pair<int, std::vector<std::int64_t>> tiles[] = {
      {1, {1, 2, 5}}, {8, {1, 7, 8, 9, 17}}, {16, {1, 9, 16, 17, 33}}};
  for (const auto& [tile_tokens, tokens] : tiles) {
    expect_right_at(
        spec,
        FewTokensSchedule{.tile_rows = 16, .tile_tokens = tile_tokens, .warps = 2, .weights = GetParam()},
        tokens, {1, 2, 5});
  }
}

// Two panels of rows, of which the last tile has one, and a part of it.
TEST_P(EmulatedPaths, WideTilesAreRight) {
  int turn = 0;
  for (const int group : {32, 128, 256, kPerChannel}) {
    for (const std::int64_t n : {88, 128, 40}) {
      KernelSpec spec = spec_of(2 + turn % 3, group, n, 648, 8);
      spec.format.offsets = turn % 5 == 1;
      spec.segment_rows = turn % 5 == 2 ? 64 : 0;
      spec.residual = turn % 5 == 3;
      if (turn % 5 == 4 && n % 16 == 0) spec.gated = Gate::silu;
      const FewTokensSchedule schedule{.tile_rows = 64,
                                       .tile_tokens = turn % 2 == 0 ? 16 : 8,
                                       .warps = 1 + turn % 3,
                                       .weights = GetParam(),
                                       .stages = 2 + (turn++ + 1) % 2,
                                       .dependent_launch = turn % 4 == 0};
      expect_right_at(spec, schedule, 11, {0, 1, 3});
    }
  }
}

TEST_P(EmulatedPaths, ColumnsThatFillNoPanelAreRight) {
  for (const std::int64_t k : {8, 40, 128, 136, 248}) {
    for (const int group : {32, 128, 256, kPerChannel}) {
      expect_right(spec_of(4, group, 17, k),
                   FewTokensSchedule{.tile_rows = 32, .warps = 2, .weights = GetParam()}, 3);
    }
  }
}

TEST_P(EmulatedPaths, TablesWithZerosDuplicatesAndExtremesAreRight) {
  const KernelSpec spec = spec_of(4, 64, 40, 264);
  const Source source =
      must(render(spec, FewTokensSchedule{.tile_rows = 32, .warps = 2, .weights = GetParam()}));
  const auto kernel = must(emulator::EmulatedKernel::compile(host_compiler(), spec, source));
  for (const TableStyle style :
       {TableStyle::zeros, TableStyle::duplicates, TableStyle::extremes, TableStyle::subnormal}) {
    const Problem problem = make_problem(spec, 5, {.table = style, .seed = 7});
    EXPECT_LE(error_of(problem, must(emulate(kernel, source, problem))), tolerance(spec.format.dtype));
  }
}

TEST_P(EmulatedPaths, IdentityGivesEveryDequantizedWeightBitExactly) {
  for (const int bits : {1, 2, 3, 4}) {
    const KernelSpec spec = spec_of(bits, 32, 40, 136);
    const Source source = must(render(
        spec, FewTokensSchedule{.tile_rows = 32, .tile_tokens = 16, .warps = 2, .weights = GetParam()}));
    const auto kernel = must(emulator::EmulatedKernel::compile(host_compiler(), spec, source));
    Problem problem = make_problem(spec, 1);
    set_identity_rows(problem, 0, spec.format.k);
    const std::vector<std::uint16_t> result = must(emulate(kernel, source, problem));
    const std::vector<double> weights =
        must(reference_matmul(problem.matrix, problem.activations, spec.format.k));
    for (std::size_t i = 0; i < result.size(); ++i) {
      ASSERT_EQ(result[i], to_bits(static_cast<float>(weights[i]), spec.format.dtype)) << "element " << i;
    }
  }
}

std::string name_of(const testing::TestParamInfo<WeightPath>& info) {
  return std::string(to_string(info.param));
}

INSTANTIATE_TEST_SUITE_P(Paths, EmulatedPaths,
                         testing::Values(WeightPath::registers, WeightPath::async_copy,
                                         WeightPath::bulk_copy),
                         name_of);

class EmulatedCandidates : public testing::TestWithParam<std::int64_t> {};

// What the library would really launch, for every target; a schedule that several share runs once.
TEST_P(EmulatedCandidates, OfEveryTargetAreRight) {
  std::vector<Schedule> seen;
  for (const TargetTraits& target : Target::all()) {
    const KernelSpec spec = spec_of(GetParam() == 1 ? 4 : 3, 128, 40, 520, GetParam(), target.name);
    for (Schedule schedule : must(schedules(spec))) {
      // It changes nothing but the launch bounds.
      if (auto* few = std::get_if<FewTokensSchedule>(&schedule)) few->blocks_per_multiprocessor = 1;
      if (std::ranges::find(seen, schedule) != seen.end()) continue;
      seen.push_back(schedule);
      if (has_turn(seen.size())) expect_right_at(spec, schedule, GetParam(), {1, 5});
    }
  }
  EXPECT_GE(seen.size(), 20U) << "the model offers fewer schedules than it should";
}

INSTANTIATE_TEST_SUITE_P(Tokens, EmulatedCandidates, testing::Values(1, 8, 16, 24));

}  // namespace
}  // namespace lutsmith::emulator_test
