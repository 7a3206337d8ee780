// What a launch refuses, and that it enqueues nothing then.

#include <functional>

#include "machine.h"
#include "multiplication.h"
#include "problem.h"

namespace lutsmith::gpu_test {
namespace {

const void* moved(const void* pointer, std::ptrdiff_t bytes) {
  return static_cast<const std::byte*>(pointer) + bytes;
}

class LaunchArgumentsOnGpu : public GpuTest {
 protected:
  // Launches with arguments changed by `change`, which must be refused with a message that names `field`.
  static void expect_refused(const std::string& field, const std::function<void(MatmulArguments&)>& change) {
    SCOPED_TRACE(field);
    const KernelRequest request{spec_of(4, 128, 64, 256), std::nullopt};
    const Problem problem = make_problem(request.spec, 2);
    Multiplication multiplication(problem);
    MatmulArguments arguments = multiplication.arguments();
    change(arguments);
    Workspace workspace = must(machine()->service.create_workspace());
    const Result<void> launched = get_kernel(request).launch(arguments, workspace, nullptr);
    ASSERT_FALSE(launched) << "was accepted";
    EXPECT_EQ(launched.error().code, ErrorCode::invalid_argument) << launched.error().message;
    EXPECT_NE(launched.error().message.find(field), std::string::npos) << launched.error().message;
    for (const std::uint16_t value : multiplication.result()) {
      ASSERT_EQ(value, 0xffff) << "something was enqueued all the same";
    }
  }
};

TEST_F(LaunchArgumentsOnGpu, NullPointersAreRefused) {
  expect_refused("weights", [](MatmulArguments& arguments) { arguments.weights.data = nullptr; });
  expect_refused("activations", [](MatmulArguments& arguments) { arguments.activations = nullptr; });
  expect_refused("output", [](MatmulArguments& arguments) { arguments.output = nullptr; });
}

TEST_F(LaunchArgumentsOnGpu, MisalignedPointersAreRefused) {
  expect_refused("weights", [](MatmulArguments& arguments) {
    arguments.weights.data = moved(arguments.weights.data, 8);
  });
  expect_refused("activations",
                 [](MatmulArguments& arguments) { arguments.activations = moved(arguments.activations, 2); });
  expect_refused("output", [](MatmulArguments& arguments) {
    arguments.output = static_cast<std::byte*>(arguments.output) + 1;
  });
}

TEST_F(LaunchArgumentsOnGpu, WeightsOfAnotherGroupOrLengthAreRefusedNotRead) {
  expect_refused("weights", [](MatmulArguments& arguments) { arguments.weights.format.group = 64; });
  expect_refused("weights", [](MatmulArguments& arguments) { arguments.weights.bytes -= 16; });
}

TEST_F(LaunchArgumentsOnGpu, TableOfTheWrongLengthIsRefused) {
  expect_refused("table", [](MatmulArguments& arguments) { arguments.table = arguments.table.first(15); });
  expect_refused("table", [](MatmulArguments& arguments) { arguments.table = {}; });
}

TEST_F(LaunchArgumentsOnGpu, SizesAndStridesOutOfRangeAreRefused) {
  for (const std::int64_t m : {std::int64_t{-1}, std::int64_t{1} << 31}) {
    expect_refused("m", [m](MatmulArguments& arguments) { arguments.m = m; });
  }
  for (const std::int64_t stride : {248, 260, -256}) {
    expect_refused("activation_stride",
                   [&](MatmulArguments& arguments) { arguments.activation_stride = stride; });
  }
  for (const std::int64_t stride : {63, -64}) {
    expect_refused("output_stride", [&](MatmulArguments& arguments) { arguments.output_stride = stride; });
  }
  expect_refused("partitions", [](MatmulArguments& arguments) { arguments.partitions = -1; });
}

TEST_F(LaunchArgumentsOnGpu, WorkspaceThatHoldsNothingIsRefused) {
  const KernelRequest request{spec_of(4, 128, 64, 256), std::nullopt};
  const Problem problem = make_problem(request.spec, 1);
  Multiplication multiplication(problem);
  Workspace workspace = must(machine()->service.create_workspace());
  Workspace taken = std::move(workspace);
  // NOLINTNEXTLINE(bugprone-use-after-move): a workspace that was moved from is what is tried here
  const Result<void> launched = get_kernel(request).launch(multiplication.arguments(), workspace, nullptr);
  ASSERT_FALSE(launched);
  EXPECT_NE(launched.error().message.find("workspace"), std::string::npos) << launched.error().message;
  EXPECT_GT(taken.bytes(), 0U);
}

TEST_F(LaunchArgumentsOnGpu, WorkspaceTooSmallForThePartitionsIsRefused) {
  // 256 tiles of 128 steps, so that tens of thousands of partitions exist; no workspace has room for them.
  const KernelRequest request{spec_of(2, 128, 8192, 16384), FewTokensSchedule{.warps = 1}};
  const Problem problem = make_problem(request.spec, 1);
  Multiplication multiplication(problem, {.partitions = 32768});
  Workspace workspace = must(machine()->service.create_workspace());
  const Result<void> launched = get_kernel(request).launch(multiplication.arguments(), workspace, nullptr);
  ASSERT_FALSE(launched);
  EXPECT_EQ(launched.error().code, ErrorCode::invalid_argument);
  EXPECT_NE(launched.error().message.find("partitions"), std::string::npos) << launched.error().message;
}

TEST_F(LaunchArgumentsOnGpu, KernelOfAnotherGpuIsRefused) {
  KernelSpec spec = spec_of(4, 128, 64, 256);
  for (const TargetTraits& traits : Target::all()) {
    if (traits.major == machine()->target.traits().major) continue;
    spec.target = must(Target::parse(traits.name));
    const Result<Kernel> kernel = machine()->service.get(spec);
    ASSERT_FALSE(kernel) << traits.name;
    EXPECT_NE(kernel.error().message.find(traits.name), std::string::npos) << kernel.error().message;
  }
}

}  // namespace
}  // namespace lutsmith::gpu_test
