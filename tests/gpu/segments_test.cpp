// Segments of rows with tables of their own.

#include <algorithm>
#include <vector>

#include "machine.h"
#include "multiplication.h"

namespace lutsmith::gpu_test {
namespace {

using SegmentsOnGpu = GpuTest;

KernelSpec spec_with_segments(int bits, int group, std::int64_t n, std::int64_t k, std::int64_t m,
                              int segment_rows, DataType dtype = DataType::f16) {
  KernelSpec spec = spec_of(bits, group, n, k, m, dtype);
  spec.segment_rows = segment_rows;
  return spec;
}

TEST_F(SegmentsOnGpu, EveryFormatIsRightForFewTokensAndForMany) {
  for (const std::int64_t m : {1, 8, 16, 32, 64, 300}) {
    std::vector<KernelRequest> requests;
    for (const int bits : {1, 2, 3, 4}) {
      for (const int group : {32, 64, 128, 256, kPerChannel}) {
        for (const int segment_rows : {16, 128}) {
          const DataType dtype = segment_rows == 16 ? DataType::bf16 : DataType::f16;
          requests.push_back({spec_with_segments(bits, group, 680, 648, m, segment_rows, dtype), {}});
        }
      }
    }
    precompile(requests);
    std::uint64_t seed = 300;
    for (const KernelRequest& request : requests) expect_right(request, m, {}, {.seed = ++seed});
  }
}

TEST_F(SegmentsOnGpu, EveryFamilyIsRightWithTilesThatAreCut) {
  std::vector<Schedule> schedules;
  for (const WeightPath path : {WeightPath::registers, WeightPath::async_copy, WeightPath::bulk_copy}) {
    for (const int tokens : {1, 8, 16}) {
      schedules.emplace_back(FewTokensSchedule{
          .tile_rows = 32, .tile_tokens = tokens, .warps = 4, .weights = path, .stages = 2});
    }
  }
  for (const int rows : {128, 256}) {
    schedules.emplace_back(MultistageSchedule{
        .tile_rows = 128, .tile_tokens = 32, .warp_rows = rows / 8, .k_groups = 1, .activation_stages = 2});
    schedules.emplace_back(ManyTokensSchedule{.tile_rows = rows,
                                              .tile_tokens = 64,
                                              .k_groups = 1,
                                              .cluster_blocks = rows == 128 ? 2 : 1,
                                              .commit_steps = 1,
                                              .activation_stages = 4,
                                              .weight_stages = 4});
  }
  std::vector<KernelRequest> requests;
  for (const Schedule& schedule : schedules) {
    for (const int group : {32, 128, kPerChannel}) {
      const KernelSpec spec = spec_with_segments(4, group, 1200, 648, 8, 256);
      if (validate(spec, schedule)) requests.push_back({spec, schedule});
    }
  }
  ASSERT_GE(requests.size(), 30U);
  precompile(requests);
  for (const KernelRequest& request : requests) {
    for (const int partitions : {0, 1, 3, 7}) {
      expect_right(request, 75, {.partitions = partitions, .activation_padding = 8, .output_padding = 3});
    }
  }
}

// Who launches may free the arrays as soon as the launch returns, and the next launch may divide otherwise.
TEST_F(SegmentsOnGpu, LaunchesOfOneKernelDivideTheRowsAsTheyLike) {
  const KernelRequest request{spec_with_segments(4, 128, 1024, 1024, 8, 128), {}};
  Problem problem = make_problem(request.spec, 8);
  const std::size_t length = problem.matrix.table.size() / problem.matrix.segments.size();
  const std::vector<std::uint16_t> tables = problem.matrix.table;
  const std::vector<std::vector<std::int64_t>> divisions{
      {1024}, {128, 896}, {896, 128}, {512, 256, 256}, {128, 128, 128, 640}};
  for (const std::vector<std::int64_t>& segments : divisions) {
    problem.matrix.segments = segments;
    problem.matrix.table.assign(tables.begin(),
                                tables.begin() + static_cast<std::ptrdiff_t>(segments.size() * length));
    expect_right(request, problem);
  }
}

}  // namespace
}  // namespace lutsmith::gpu_test
