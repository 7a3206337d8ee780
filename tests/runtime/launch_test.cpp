#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <span>
#include <thread>

#include "lutsmith/weight_format.h"
#include "runtime/loaded_kernel.h"
#include "runtime/workspace_memory.h"
#include "stand_in.h"
#include "synthetic_cubin.h"
#include "templates/abi/kernel_arguments.h"

namespace lutsmith {
namespace {

using testing::HasSubstr;

/// Room for so many partitions of the largest tile, or more of smaller ones.
WorkspaceSize partitions_of_32x16(int partitions) {
  return {.partial_sum_bytes = static_cast<std::size_t>(partitions) * 2 * 32 * 16 * sizeof(float),
          .arrival_counters = 64 * partitions};
}

class LaunchTest : public testing::Test {
 protected:
  LaunchTest() {
    artifact_.kernel_name = "kern";
    artifact_.cubin = synthetic_cubin(spec_.target, "kern");
    artifact_.launch = {.threads = 256,
                        .shared_bytes = 100000,
                        .tile_rows = 32,
                        .tile_tokens = 8,
                        .row_tiles = 128,
                        .steps_per_tile = 4,
                        .blocks_per_multiprocessor = 1,
                        .dependent_launch = true,
                        .fix_up_steps = 8,
                        .workspace_per_partition = {2 * 32 * 8 * sizeof(float), 1}};
    arguments_ = {.weights = {.format = spec_.format,
                              .data = reinterpret_cast<const void*>(0x100000),
                              .bytes = packed_bytes(spec_.format).value()},
                  .activations = reinterpret_cast<const void*>(0x200000),
                  .output = reinterpret_cast<void*>(0x300002),
                  .table = table_,
                  .m = 3};
    load();
    auto workspace = WorkspaceMemory::allocate(StandIn::driver(), partitions_of_32x16(64));
    EXPECT_TRUE(workspace.has_value());
    workspace_ = std::move(*workspace);
    StandIn::state().launches = 0;
  }

  void load() {
    auto loaded = try_to_load();
    ASSERT_TRUE(loaded.has_value()) << loaded.error().message;
    kernel_ = *loaded;
  }

  Result<std::shared_ptr<const LoadedKernel>> try_to_load() const {
    const CurrentContext context = CurrentContext::ask(StandIn::driver()).value();
    const CurrentDevice device = CurrentDevice::ask(context).value();
    return LoadedKernel::load(device, spec_, Schedule{}, std::make_shared<const Artifact>(artifact_));
  }

  Result<void> launch() const { return kernel_->launch(arguments_, /*tokens=*/5, workspace_, nullptr); }

  /// The launch is refused with all of `parts` in the message, and nothing reaches the driver.
  void expect_refused(std::initializer_list<std::string> parts) const {
    const Result<void> launched = launch();
    ASSERT_FALSE(launched.has_value());
    EXPECT_EQ(launched.error().code, ErrorCode::invalid_argument);
    for (const std::string& part : parts) EXPECT_THAT(launched.error().message, HasSubstr(part));
    EXPECT_EQ(StandIn::state().launches, 0);
  }

  KernelSpec spec_{.format = {.n = 4096, .k = 4096}, .m = 1, .target = *Target::parse("sm_90a")};
  std::vector<std::uint16_t> table_ = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
  Artifact artifact_;
  MatmulArguments arguments_;
  std::shared_ptr<const LoadedKernel> kernel_;
  WorkspaceMemory workspace_;
};

TEST_F(LaunchTest, KernelGetsItsArgumentsAndTable) {
  arguments_.activation_stride = 4104;
  arguments_.partitions = 40;
  ASSERT_TRUE(launch().has_value());
  KernelParameter<512> parameter{};
  std::memcpy(&parameter, StandIn::state().parameter.data(), sizeof(parameter));
  EXPECT_EQ(parameter.launch.weights, arguments_.weights.data);
  EXPECT_EQ(parameter.launch.activations, arguments_.activations);
  EXPECT_EQ(parameter.launch.output, arguments_.output);
  EXPECT_EQ(parameter.launch.arrivals, workspace_.arrivals());
  EXPECT_EQ(parameter.launch.partial_sums, workspace_.partial_sums());
  EXPECT_EQ(parameter.launch.activation_stride, 4104);
  EXPECT_EQ(parameter.launch.output_stride, 4096) << "0 stands for n";
  EXPECT_EQ(parameter.launch.tokens, 3);
  const Partition cut = partition(artifact_.launch, 3, 132, 40).value();
  EXPECT_EQ(parameter.launch.steps_per_grain, cut.steps_per_grain);
  EXPECT_EQ(parameter.launch.grains_per_partition, cut.grains_per_partition);
  EXPECT_EQ(parameter.launch.extra_grains, cut.extra_grains);
  EXPECT_TRUE(std::equal(table_.begin(), table_.end(), parameter.table));
}

TEST_F(LaunchTest, KernelsThatReadXByTensorCopiesGetItsMapBehindTheTable) {
  artifact_.launch.activation_box_tokens = 64;
  load();
  arguments_.activation_stride = 4104;
  ASSERT_TRUE(launch().has_value());
  const auto& map = StandIn::state().tensor_map;
  EXPECT_EQ(map.matrix, arguments_.activations);
  EXPECT_THAT(map.sizes, testing::ElementsAre(4096, 3));
  EXPECT_EQ(map.row_bytes, 2 * 4104);
  EXPECT_THAT(map.box, testing::ElementsAre(64, 64));
  EXPECT_EQ(map.swizzle, cuda::TensorSwizzle::bytes_128);
  EXPECT_EQ(map.misaligned_by, 0U);
  MappedParameter<KernelParameter<16>> parameter{};
  std::memcpy(&parameter, StandIn::state().parameter.data(), sizeof(parameter));
  EXPECT_EQ(parameter.form.launch.tokens, 3);
  EXPECT_TRUE(std::equal(table_.begin(), table_.end(), parameter.form.table));
  for (const unsigned long long word : parameter.activations.words) EXPECT_EQ(word, 0x5a5a5a5a5a5a5a5aULL);
}

TEST_F(LaunchTest, KernelsWithSegmentsGetTheirEndsAndTables) {
  artifact_.launch.activation_box_tokens = 64;
  spec_.segment_rows = 256;
  load();
  constexpr std::int64_t kSegments[] = {2048, 1024, 1024};
  std::vector<std::uint16_t> tables;
  for (std::uint16_t i = 0; i < 48; ++i) tables.push_back(i);
  arguments_.segments = kSegments;
  arguments_.table = tables;
  ASSERT_TRUE(launch().has_value());
  MappedParameter<SegmentedParameter<16>> parameter{};
  std::memcpy(&parameter, StandIn::state().parameter.data(), sizeof(parameter));
  EXPECT_EQ(parameter.form.launch.tokens, 3);
  constexpr int kBehindAll = std::numeric_limits<int>::max();
  EXPECT_THAT(parameter.form.segment_ends, testing::ElementsAre(2048, 3072, kBehindAll, kBehindAll));
  EXPECT_TRUE(std::equal(tables.begin(), tables.end(), parameter.form.table));
  for (const unsigned long long word : parameter.activations.words) EXPECT_EQ(word, 0x5a5a5a5a5a5a5a5aULL);

  StandIn::state().launches = 0;
  arguments_.table = std::span(tables).first(32);
  expect_refused({"table: 32 values", "has 16, and there are 3 segments"});
  arguments_.segments = std::span(kSegments).first(2);
  expect_refused({"segments: 3072 rows in all; allowed: n 4096"});
  arguments_.segments = {};
  expect_refused({"segments: 0 given"});
}

TEST_F(LaunchTest, RefusedTensorMapIsAnErrorAndNothingIsLaunched) {
  artifact_.launch.activation_box_tokens = 64;
  load();
  StandIn::state().tensor_map_status = 1;
  const int launches = StandIn::state().launches;
  const auto launched = launch();
  ASSERT_FALSE(launched.has_value());
  EXPECT_THAT(launched.error().message, HasSubstr("cuTensorMapEncodeTiled"));
  EXPECT_EQ(StandIn::state().launches, launches);
}

TEST_F(LaunchTest, GridBlockAndAttributesFollowTheRecipe) {
  arguments_.partitions = 40;
  ASSERT_TRUE(kernel_->launch(arguments_, /*tokens=*/5, workspace_, reinterpret_cast<cuda::StreamHandle>(0x8))
                  .has_value());
  const cuda::LaunchConfiguration& configuration = StandIn::state().configuration;
  EXPECT_EQ(configuration.grid_x, 40U);
  EXPECT_EQ(configuration.grid_y * configuration.grid_z, 1U);
  EXPECT_EQ(configuration.block_x, 256U);
  EXPECT_EQ(configuration.dynamic_shared_bytes, 100000U);
  EXPECT_EQ(configuration.stream, reinterpret_cast<cuda::StreamHandle>(0x8));
  EXPECT_EQ(StandIn::state().max_dynamic_shared, 100000);
  ASSERT_EQ(configuration.attribute_count, 1U);
  EXPECT_EQ(StandIn::state().attribute.id, 6) << "CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION";
  EXPECT_EQ(StandIn::state().attribute.value.integer, 1);

  artifact_.launch.dependent_launch = false;
  load();
  ASSERT_TRUE(launch().has_value());
  EXPECT_EQ(StandIn::state().configuration.attribute_count, 0U);
}

TEST_F(LaunchTest, ClustersOfTwoTakeTwiceAsManyBlocks) {
  artifact_.launch.cluster_blocks = 2;
  artifact_.launch.dependent_launch = false;
  artifact_.launch.workspace_per_partition.arrival_counters = 2;
  load();
  arguments_.partitions = 40;
  ASSERT_TRUE(launch().has_value());
  EXPECT_EQ(StandIn::state().configuration.grid_x, 80U);
  ASSERT_EQ(StandIn::state().configuration.attribute_count, 1U);
  EXPECT_EQ(StandIn::state().attribute.id, 4) << "CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION";
  EXPECT_THAT(StandIn::state().attribute.value.dimensions, testing::ElementsAre(2U, 1U, 1U));

  artifact_.launch.dependent_launch = true;
  load();
  ASSERT_TRUE(launch().has_value());
  EXPECT_EQ(StandIn::state().configuration.attribute_count, 2U);
  EXPECT_EQ(StandIn::state().attribute.id, 6) << "the first of the two";
}

TEST_F(LaunchTest, DefaultPartitionsAreThoseOfTheModel) {
  EXPECT_EQ(kernel_->default_partitions(3), partition(artifact_.launch, 3, 132)->partitions);
  EXPECT_EQ(kernel_->default_partitions(0), 0);
}

TEST_F(LaunchTest, NullAndMisalignedPointersAreRefused) {
  const MatmulArguments good = arguments_;
  arguments_.weights.data = nullptr;
  expect_refused({"weights", "null"});
  arguments_ = good;
  arguments_.weights.data = reinterpret_cast<const void*>(0x100008);
  expect_refused({"weights", "0x100008", "16"});
  arguments_ = good;
  arguments_.activations = nullptr;
  expect_refused({"activations", "null"});
  arguments_ = good;
  arguments_.activations = reinterpret_cast<const void*>(0x200002);
  expect_refused({"activations", "16"});
  arguments_ = good;
  arguments_.output = nullptr;
  expect_refused({"output", "null"});
  arguments_ = good;
  arguments_.output = reinterpret_cast<void*>(0x300001);
  expect_refused({"output", "2 bytes"});
}

TEST_F(LaunchTest, WeightsOfAnotherFormatAreRefusedInsteadOfReadOutOfBounds) {
  const MatmulArguments good = arguments_;
  arguments_.weights.format.group = 64;
  expect_refused({"weights", "w4 g64", "w4 g128"});
  arguments_ = good;
  arguments_.weights.format.dtype = DataType::bf16;
  expect_refused({"weights", "bf16"});
  arguments_ = good;
  arguments_.weights.format.n = 8192;
  expect_refused({"weights", "8192x4096"});
}

TEST_F(LaunchTest, WeightsOfTheWrongLengthAreRefused) {
  const std::size_t right = arguments_.weights.bytes;
  for (const std::size_t bytes : {std::size_t{0}, right - 16, right + 16}) {
    arguments_.weights.bytes = bytes;
    expect_refused({"weights: " + std::to_string(bytes), std::to_string(right)});
  }
}

TEST_F(LaunchTest, TokensComeFromTheRequestUnlessTheLaunchNamesThem) {
  arguments_.m = 0;
  ASSERT_TRUE(launch().has_value());
  KernelParameter<512> parameter{};
  std::memcpy(&parameter, StandIn::state().parameter.data(), sizeof(parameter));
  EXPECT_EQ(parameter.launch.tokens, 5);
}

TEST_F(LaunchTest, WorkspaceOverTheCallersMemoryServesLikeOneOfItsOwn) {
  void* const memory = reinterpret_cast<void*>(0x40000);
  const std::size_t bytes = WorkspaceMemory::bytes_for(partitions_of_32x16(64));
  EXPECT_EQ(bytes, workspace_.bytes());
  const int allocations = StandIn::state().allocations;
  auto over = WorkspaceMemory::over(workspace_.context(), memory, bytes, partitions_of_32x16(64));
  ASSERT_TRUE(over.has_value());
  const WorkspaceSize partial{2 * 32 * 16 * sizeof(float), 1};
  EXPECT_EQ(over->capacity(partial), workspace_.capacity(partial));
  workspace_ = std::move(*over);
  ASSERT_TRUE(launch().has_value());
  KernelParameter<512> parameter{};
  std::memcpy(&parameter, StandIn::state().parameter.data(), sizeof(parameter));
  EXPECT_EQ(parameter.launch.arrivals, memory);
  EXPECT_EQ(StandIn::state().allocations, allocations);
}

TEST_F(LaunchTest, CallersMemoryThatIsTooSmallOrMisalignedIsNoWorkspace) {
  const std::size_t bytes = WorkspaceMemory::bytes_for(partitions_of_32x16(64));
  const auto refusal = [&](std::uintptr_t address, std::size_t given) {
    const auto over = WorkspaceMemory::over(workspace_.context(), reinterpret_cast<void*>(address), given,
                                            partitions_of_32x16(64));
    return over ? std::string() : over.error().message;
  };
  EXPECT_THAT(refusal(0x40000, bytes - 1), HasSubstr(std::to_string(bytes)));
  EXPECT_THAT(refusal(0x40010, bytes), HasSubstr("256"));
  EXPECT_THAT(refusal(0, bytes), HasSubstr("memory"));
}

TEST_F(LaunchTest, TableOfTheWrongLengthIsRefused) {
  table_.pop_back();
  arguments_.table = table_;
  expect_refused({"table: 15 values", "has 16"});
  arguments_.table = {};
  expect_refused({"table: 0 values"});
}

TEST_F(LaunchTest, SizesOutOfRangeAreRefused) {
  const MatmulArguments good = arguments_;
  for (const std::int64_t m : {std::int64_t{-1}, std::int64_t{1} << 31U}) {
    arguments_.m = m;
    expect_refused({"m: ", std::to_string(m)});
  }
  for (const std::int64_t stride : {4088, 4100, -8}) {
    arguments_ = good;
    arguments_.activation_stride = stride;
    expect_refused({"activation_stride: " + std::to_string(stride), "4096"});
  }
  arguments_ = good;
  arguments_.output_stride = 4095;
  expect_refused({"output_stride: 4095"});
  arguments_ = good;
  arguments_.partitions = -1;
  expect_refused({"partitions: -1"});
}

TEST_F(LaunchTest, WhatTheSpecAddsHasToBeGivenAndNothingElse) {
  const auto* const residual = reinterpret_cast<const void*>(0x400002);
  const auto* const bias = reinterpret_cast<const void*>(0x500000);
  const MatmulArguments plain = arguments_;
  arguments_.residual = residual;
  expect_refused({"residual: this kernel adds none"});
  arguments_ = plain;
  arguments_.bias = bias;
  expect_refused({"bias: this kernel adds none"});

  spec_.residual = spec_.bias = true;
  load();
  expect_refused({"residual: null"});
  arguments_.residual = residual;
  arguments_.residual_stride = 4095;
  expect_refused({"residual_stride: 4095", "n = 4096"});
  arguments_.residual = arguments_.output;
  arguments_.residual_stride = 4104;
  expect_refused({"residual_stride: 4104", "in the place of the output", "4096"});

  arguments_.residual = residual;
  ASSERT_TRUE(launch().has_value());
  KernelParameter<512> parameter{};
  std::memcpy(&parameter, StandIn::state().parameter.data(), sizeof(parameter));
  EXPECT_EQ(parameter.launch.residual, residual);
  EXPECT_EQ(parameter.launch.residual_stride, 4104);
  EXPECT_EQ(parameter.launch.bias, bias);
}

TEST_F(LaunchTest, ElementsOfTheOutputAndOfTheResidualAreAlignedToTheirSize) {
  spec_.residual = true;
  spec_.output = OutputType::f32;
  load();
  arguments_.output = reinterpret_cast<void*>(0x300002);
  arguments_.residual = reinterpret_cast<const void*>(0x400004);
  expect_refused({"output: 0x300002 is not a multiple of 4"});
  arguments_.output = reinterpret_cast<void*>(0x300004);
  arguments_.residual = reinterpret_cast<const void*>(0x400002);
  expect_refused({"residual: 0x400002 is not a multiple of 4"});
  arguments_.residual = reinterpret_cast<const void*>(0x400004);
  EXPECT_TRUE(launch().has_value());
}

TEST_F(LaunchTest, GatedRowsOfTheOutputAreHalfAsLong) {
  spec_.gated = Gate::silu;
  load();
  arguments_.output_stride = 2047;
  expect_refused({"output_stride: 2047", "n / 2 = 2048"});
  arguments_.output_stride = 0;
  ASSERT_TRUE(launch().has_value());
  KernelParameter<512> parameter{};
  std::memcpy(&parameter, StandIn::state().parameter.data(), sizeof(parameter));
  EXPECT_EQ(parameter.launch.output_stride, 2048);
}

TEST_F(LaunchTest, WorkspaceThatIsTooSmallIsRefusedWithItsRoom) {
  auto small = WorkspaceMemory::allocate(StandIn::driver(), partitions_of_32x16(1));  // two of this kernel's
  ASSERT_TRUE(small.has_value());
  workspace_ = std::move(*small);
  arguments_.partitions = 3;
  expect_refused({"partitions: 3", "room for 2"});
  arguments_.partitions = 2;
  EXPECT_TRUE(launch().has_value());
}

TEST_F(LaunchTest, WorkspaceIsZeroedAndHoldsWhatAKernelWrites) {
  EXPECT_EQ(StandIn::state().zeroed_bytes, workspace_.bytes());
  const int most = workspace_.capacity({2 * 32 * 16 * sizeof(float), 1});
  EXPECT_EQ(most, 64);
  const auto* begin = reinterpret_cast<const std::byte*>(workspace_.arrivals());
  const auto* sums = reinterpret_cast<const std::byte*>(workspace_.partial_sums());
  for (const int tile : {16 * 1, 16 * 8, 32 * 8, 32 * 16}) {
    const std::size_t partial = 2 * static_cast<std::size_t>(tile) * sizeof(float);
    const auto partitions = static_cast<std::size_t>(workspace_.capacity({partial, 1}));
    EXPECT_LE(begin + partitions * sizeof(unsigned int), sums)
        << "counters stay clear of every kernel's sums";
    EXPECT_LE(sums + partitions * partial, begin + workspace_.bytes());
  }
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(sums) % 256, 0U);
}

TEST_F(LaunchTest, ThreadWithoutAContextLaunchesInTheKernelsOwn) {
  std::thread([&] {
    EXPECT_TRUE(launch().has_value());
    cuda::ContextHandle left = nullptr;
    StandIn::driver().api().context_get_current(&left);
    EXPECT_EQ(left, nullptr) << "the thread's state is put back";
  }).join();
  EXPECT_EQ(StandIn::state().launch_context, workspace_.context());
}

TEST_F(LaunchTest, DriversRefusalIsReported) {
  StandIn::state().launch_status = 719;
  const Result<void> launched = launch();
  StandIn::state().launch_status = 0;
  ASSERT_FALSE(launched.has_value());
  EXPECT_EQ(launched.error().code, ErrorCode::driver_error);
  EXPECT_THAT(launched.error().message, HasSubstr("cuLaunchKernelEx"));
}

TEST_F(LaunchTest, MoreSharedMemoryThanTheGpuHasIsRefusedAtLoad) {
  artifact_.launch.shared_bytes = 300000;
  const auto loaded = try_to_load();
  ASSERT_FALSE(loaded.has_value());
  EXPECT_EQ(loaded.error().code, ErrorCode::unsupported);
  EXPECT_THAT(loaded.error().message, HasSubstr("300000"));
}

TEST_F(LaunchTest, ForkedChildGetsAnErrorInsteadOfAHang) {
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    const Result<void> launched = launch();
    const bool clear = !launched && launched.error().message.find("forked") != std::string::npos;
    _exit(clear && StandIn::state().launches == 0 ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_TRUE(launch().has_value()) << "the parent goes on";
}

}  // namespace
}  // namespace lutsmith
