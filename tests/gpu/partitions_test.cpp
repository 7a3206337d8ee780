// Stream-K: any number of partitions gives the product, and the same number the same bits.

#include "machine.h"
#include "multiplication.h"
#include "problem.h"

namespace lutsmith::gpu_test {
namespace {

using PartitionsOnGpu = GpuTest;

std::vector<KernelRequest> requests_of_few_units() {
  std::vector<KernelRequest> requests;
  for (const WeightPath path : {WeightPath::registers, WeightPath::async_copy, WeightPath::bulk_copy}) {
    for (const int tile_rows : {16, 32}) {
      const KernelSpec spec = spec_of(4, 128, 80, 1160);
      const FewTokensSchedule schedule{.tile_rows = tile_rows, .warps = 2, .weights = path, .stages = 2};
      if (validate(spec, schedule)) requests.push_back({spec, schedule});
    }
  }
  return requests;
}

TEST_F(PartitionsOnGpu, EveryNumberOfPartitionsIsRightAndBeyondTheUnitsToo) {
  const std::vector<KernelRequest> requests = requests_of_few_units();
  precompile(requests);
  for (const KernelRequest& request : requests) {
    SCOPED_TRACE(describe(request));
    const Kernel kernel = get_kernel(request);
    const LaunchRecipe& recipe = kernel.artifact().launch;
    const int units = static_cast<int>(recipe.row_tiles) * recipe.steps_per_tile;
    for (const std::int64_t m : {1, 9}) {
      const Problem problem = make_problem(request.spec, m);
      for (int partitions = 1; partitions <= 2 * units + 3; ++partitions) {
        expect_right(request, problem, {.partitions = partitions});
      }
      expect_right(request, problem, {.partitions = 100000});
    }
  }
}

TEST_F(PartitionsOnGpu, TilesThatSpanManyPartitionsAreRight) {
  // One tile, 32 steps: up to 32 partial sums meet in one place.
  const KernelRequest request{spec_of(4, 64, 16, 4096), FewTokensSchedule{.tile_rows = 16, .warps = 1}};
  for (const int partitions : {1, 2, 5, 16, 31, 32}) expect_right(request, 5, {.partitions = partitions});
}

TEST_F(PartitionsOnGpu, ManyMorePartitionsThanMultiprocessorsAreRight) {
  const KernelRequest request{spec_of(4, 128, 4096, 1024), FewTokensSchedule{.warps = 1}};
  const Problem problem = make_problem(request.spec, 1);
  for (const int partitions : {100, 132, 264, 500}) {
    expect_right(request, problem, {.partitions = partitions});
  }
}

TEST_F(PartitionsOnGpu, FixedNumberOfPartitionsRepeatsBitForBit) {
  const std::vector<KernelRequest> requests = requests_of_few_units();
  precompile(requests);
  for (const KernelRequest& request : requests) {
    SCOPED_TRACE(describe(request));
    const Problem problem = make_problem(request.spec, 9);
    for (const int partitions : {0, 2, 7}) {
      Multiplication multiplication(problem, {.partitions = partitions});
      const Kernel kernel = get_kernel(request);
      const std::vector<std::uint16_t> first = multiplication.run(kernel);
      for (int repeat = 0; repeat < 10; ++repeat) EXPECT_EQ(multiplication.run(kernel), first);
    }
  }
}

TEST_F(PartitionsOnGpu, OneWorkspaceServesLaunchesOfDifferentKernelsInTurn) {
  // A launch leaves the arrival counters as it found them: zero.
  const cuda::Stream stream = must(cuda::Stream::create(*machine()->driver));
  Workspace workspace = must(machine()->service.create_workspace());
  for (int repeat = 0; repeat < 3; ++repeat) {
    for (const std::int64_t k : {1024, 1032, 2056}) {
      const KernelRequest request{spec_of(4, 128, 96, k), FewTokensSchedule{.warps = 2}};
      const Problem problem = make_problem(request.spec, 8);
      for (const int partitions : {5, 3, 11}) {
        Multiplication multiplication(problem, {.partitions = partitions});
        must(get_kernel(request).launch(multiplication.arguments(), workspace, stream.get()));
        EXPECT_LE(error_of(problem, multiplication.result()), tolerance(DataType::f16));
      }
    }
  }
}

}  // namespace
}  // namespace lutsmith::gpu_test
