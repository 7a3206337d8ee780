// A few small launches of every kind, for compute-sanitizer:
//
//   compute-sanitizer --tool memcheck  lutsmith_gpu_tests --gtest_filter='Sanitizer*'
//   compute-sanitizer --tool racecheck lutsmith_gpu_tests --gtest_filter='Sanitizer*:-*Clusters'
//
// (racecheck of CUDA 13.0 was seen not to come to an end on kernels in clusters.)

#include "machine.h"
#include "multiplication.h"
#include "problem.h"

namespace lutsmith::gpu_test {
namespace {

using Sanitizer = GpuTest;

void expect_small_shapes_right(WeightPath path) {
  std::vector<KernelRequest> requests;
  for (const int bits : {1, 2, 3, 4}) {
    for (const int tile_tokens : {1, 8, 16}) {
      const KernelSpec spec = spec_of(bits, bits == 3 ? 256 : 32, 50, 648, tile_tokens);
      const FewTokensSchedule schedule{
          .tile_rows = bits == 4 ? 16 : 32,
          .tile_tokens = tile_tokens,
          .warps = 2,
          .weights = path,
          .stages = 2,
          .dependent_launch = machine()->target.traits().dependent_launch && bits == 2};
      if (validate(spec, schedule)) requests.push_back({spec, schedule});
    }
  }
  precompile(requests);
  for (const KernelRequest& request : requests) {
    for (const int partitions : {1, 3}) {
      expect_right(request, 3, {.partitions = partitions, .activation_padding = 8, .output_padding = 3});
    }
  }
}

TEST_F(Sanitizer, WeightsInRegisters) { expect_small_shapes_right(WeightPath::registers); }
TEST_F(Sanitizer, WeightsByAsyncCopies) { expect_small_shapes_right(WeightPath::async_copy); }
TEST_F(Sanitizer, WeightsByBulkCopies) {
  if (!machine()->target.traits().bulk_copy) GTEST_SKIP() << "this GPU has no bulk copies";
  expect_small_shapes_right(WeightPath::bulk_copy);
}

/// Of 128 and of 192 rows, with one and with two groups along K.
void multiply_with_warpgroups(int cluster_blocks) {
  std::vector<KernelRequest> requests;
  for (const int bits : {2, 4}) {
    for (const int k_groups : {1, 2}) {
      const ManyTokensSchedule schedule{.tile_rows = bits == 2 && k_groups == 1 ? 192 : 128,
                                        .tile_tokens = k_groups == 1 ? 128 : 32,
                                        .k_groups = k_groups,
                                        .cluster_blocks = cluster_blocks,
                                        .commit_steps = k_groups == 1 ? 1 : 4,
                                        .activation_stages = 4,
                                        .weight_stages = 4};
      requests.push_back({spec_of(bits, bits == 2 ? 256 : 32, 150, 648, 40), schedule});
    }
  }
  precompile(requests);
  for (const KernelRequest& request : requests) {
    for (const int partitions : {0, 3, 5}) {
      expect_right(request, 150, {.partitions = partitions, .activation_padding = 8, .output_padding = 3});
    }
  }
}

TEST_F(Sanitizer, WarpgroupProducts) {
  if (!machine()->target.traits().warpgroup_products) GTEST_SKIP() << "this GPU has no warpgroup products";
  multiply_with_warpgroups(1);
}

TEST_F(Sanitizer, WarpgroupProductsOfClusters) {
  if (!machine()->target.traits().warpgroup_products) GTEST_SKIP() << "this GPU has no warpgroup products";
  multiply_with_warpgroups(2);
}

TEST_F(Sanitizer, ProductsOfXInStages) {
  std::vector<KernelRequest> requests;
  const bool bulk_copy = machine()->target.traits().bulk_copy;
  for (const int bits : {2, 4}) {
    for (const int k_groups : {1, 2}) {
      const MultistageSchedule schedule{
          .tile_rows = 128,
          .tile_tokens = 32,
          .k_groups = k_groups,
          .activation_stages = 2,
          .weights = bulk_copy && k_groups == 1 ? WeightPath::bulk_copy : WeightPath::registers,
          .scale_sums = bits == 2,
          .dependent_launch = machine()->target.traits().dependent_launch};
      requests.push_back({spec_of(bits, bits == 2 ? 256 : 32, 150, 648, 40), schedule});
    }
  }
  precompile(requests);
  for (const KernelRequest& request : requests) {
    for (const int partitions : {0, 3, 5}) {
      expect_right(request, 75, {.partitions = partitions, .activation_padding = 8, .output_padding = 3});
    }
  }
}

TEST_F(Sanitizer, Offsets) {
  for (const std::int64_t m : {1, 16, 64}) {
    for (const int group : {32, 256, kPerChannel}) {
      KernelRequest request{spec_of(4, group, 150, 648, m), std::nullopt};
      request.spec.format.offsets = true;
      expect_right(request, m, {.activation_padding = 8, .output_padding = 3});
    }
  }
}

TEST_F(Sanitizer, DefaultSchedules) {
  for (const std::int64_t m : {1, 16}) {
    expect_right({spec_of(4, 128, 100, 520, m), std::nullopt}, m);
    expect_right({spec_of(3, kPerChannel, 33, 40, m, DataType::bf16, TableKind::pair), std::nullopt}, m);
  }
}

}  // namespace
}  // namespace lutsmith::gpu_test
