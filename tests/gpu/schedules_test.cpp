// One packed layout, many schedules: all of them give the same product.

#include <array>
#include <utility>

#include "machine.h"
#include "multiplication.h"
#include "problem.h"

namespace lutsmith::gpu_test {
namespace {

using SchedulesOnGpu = GpuTest;

void expect_all_right(const std::vector<KernelRequest>& requests, const std::vector<std::int64_t>& tokens,
                      const LaunchOptions& options = {}) {
  precompile(requests);
  for (const std::int64_t m : tokens) {
    const Problem problem = make_problem(requests.front().spec, m);
    for (const KernelRequest& request : requests) expect_right(request, problem, options);
  }
}

// 9 units of 128 along K, of which the warps' steps cover 9, 10, 9, 10, 16 and 16.
void expect_tiles_right(WeightPath path, int stages) {
  const KernelSpec spec = spec_of(4, 128, 88, 1096);
  std::vector<KernelRequest> requests;
  for (const int tile_rows : {16, 32, 64}) {
    for (const int tile_tokens : {1, 8, 16, 32}) {
      for (const int warps : {1, 2, 3, 5, 8, 16}) {
        const FewTokensSchedule schedule{
            .tile_rows = tile_rows,
            .tile_tokens = tile_tokens,
            .warps = warps,
            .weights = path,
            .stages = stages,
            .dependent_launch = machine()->target.traits().dependent_launch && warps % 2 == 0};
        if (validate(spec, schedule)) requests.push_back({spec, schedule});
      }
    }
  }
  ASSERT_GE(requests.size(), 24U) << "most of these schedules should be allowed on any GPU";
  expect_all_right(requests, {1, 11});
}

TEST_F(SchedulesOnGpu, EveryTileIsRightWithWeightsInRegisters) {
  expect_tiles_right(WeightPath::registers, 2);
}
TEST_F(SchedulesOnGpu, EveryTileIsRightWithAsyncCopies) { expect_tiles_right(WeightPath::async_copy, 2); }
TEST_F(SchedulesOnGpu, EveryTileIsRightWithBulkCopies) {
  if (!machine()->target.traits().bulk_copy) GTEST_SKIP() << "this GPU has no bulk copies";
  expect_tiles_right(WeightPath::bulk_copy, 2);
}

TEST_F(SchedulesOnGpu, EveryNumberOfStagesIsRight) {
  const KernelSpec spec = spec_of(3, 64, 64, 4104);
  std::vector<KernelRequest> requests;
  for (const WeightPath path : {WeightPath::registers, WeightPath::async_copy, WeightPath::bulk_copy}) {
    for (int stages = 2; stages <= 8; ++stages) {
      const FewTokensSchedule schedule{.warps = 2, .weights = path, .stages = stages};
      if (validate(spec, schedule)) requests.push_back({spec, schedule});
    }
  }
  expect_all_right(requests, {1, 8});
}

TEST_F(SchedulesOnGpu, EveryNumberOfResidentBlocksIsRight) {
  const KernelSpec spec = spec_of(4, 128, 3200, 1024);
  std::vector<KernelRequest> requests;
  for (int blocks = 1; blocks <= 4; ++blocks) {
    for (const bool dependent : {false, true}) {
      const FewTokensSchedule schedule{
          .warps = 4, .blocks_per_multiprocessor = blocks, .dependent_launch = dependent};
      if (validate(spec, schedule)) requests.push_back({spec, schedule});
    }
  }
  expect_all_right(requests, {1, 8});
}

TEST_F(SchedulesOnGpu, EveryCandidateTheModelOffersIsRight) {
  constexpr std::array<std::pair<int, std::int64_t>, 3> kBitsAndTokens{{{4, 1}, {3, 8}, {2, 16}}};
  for (const auto& [bits, m] : kBitsAndTokens) {
    const KernelSpec spec = spec_of(bits, 128, 1056, 2056, m);
    std::vector<KernelRequest> requests;
    for (const Schedule& schedule : must(schedules(spec))) requests.push_back({spec, schedule});
    ASSERT_FALSE(requests.empty());
    expect_all_right(requests, {m});
  }
}

TEST_F(SchedulesOnGpu, SchedulesThatSplitTheSumAlikeAgreeBitForBit) {
  // The weight stream changes when a weight arrives, not the order of any sum.
  const KernelSpec spec = spec_of(4, 128, 96, 2048);
  const Problem problem = make_problem(spec, 8);
  std::vector<std::uint16_t> first;
  for (const WeightPath path : {WeightPath::registers, WeightPath::async_copy, WeightPath::bulk_copy}) {
    const FewTokensSchedule schedule{.warps = 4, .weights = path, .stages = 2};
    if (!validate(spec, schedule)) continue;
    Multiplication multiplication(problem, {.partitions = 3});
    const std::vector<std::uint16_t> result = multiplication.run(get_kernel({spec, schedule}));
    if (first.empty()) first = result;
    EXPECT_EQ(result, first) << describe(schedule);
  }
}

}  // namespace
}  // namespace lutsmith::gpu_test
