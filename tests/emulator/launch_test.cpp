// What EmulatedKernel::launch refuses before it runs anything.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <ostream>
#include <span>
#include <string>
#include <vector>

#include "emulation.h"
#include "must.h"

namespace lutsmith::emulator_test {
namespace {

using emulator::EmulatedKernel;
using emulator::EmulatedLaunch;

constexpr std::int64_t kTokens = 3;
constexpr int kMultiprocessors = 4;
constexpr std::uint16_t kPoison = 0xffff;

KernelSpec launched_spec() {
  return {.format = {.n = 40, .k = 264}, .m = 1, .target = must(Target::parse("sm_80"))};
}

const Source& launched_source() {
  static const Source source =
      must(render(launched_spec(), FewTokensSchedule{.tile_rows = 16, .tile_tokens = 8, .warps = 2}));
  return source;
}

const EmulatedKernel& launched_kernel() {
  static const EmulatedKernel kernel =
      must(EmulatedKernel::compile(host_compiler(), launched_spec(), launched_source()));
  return kernel;
}

Partition partition_for(std::int64_t m) {
  return must(partition(launched_source().launch, m, kMultiprocessors));
}

/// The memory of a launch. There is more of it than a launch needs, so that it can be misaligned.
struct Memory {
  Problem problem = make_problem(launched_spec(), kTokens);
  std::vector<std::byte> weights = problem.packed;
  std::vector<std::uint16_t> activations = problem.activations;
  std::vector<std::uint16_t> output =
      std::vector<std::uint16_t>(static_cast<std::size_t>(kTokens * problem.n()), kPoison);

  Memory() {
    weights.resize(weights.size() + 16);
    activations.resize(activations.size() + 16);
  }

  /// One that is right, its strides left open.
  EmulatedLaunch launch() {
    return {.weights = std::span(weights).first(problem.packed.size()),
            .activations = std::span(activations).first(problem.activations.size()),
            .output = std::as_writable_bytes(std::span(output)),
            .table = problem.matrix.table,
            .m = kTokens,
            .partition = partition_for(kTokens)};
  }
};

TEST(EmulatedLaunchStrides, OfZeroAreThoseOfRowsWithoutPadding) {
  Memory memory;
  must(launched_kernel().launch(memory.launch()));
  const std::vector<std::uint16_t> result = memory.output;
  EXPECT_LE(error_of(memory.problem, result), tolerance(launched_spec().format.dtype));
  std::ranges::fill(memory.output, kPoison);
  EmulatedLaunch launch = memory.launch();
  launch.activation_stride = memory.problem.k();
  launch.output_stride = memory.problem.n();
  must(launched_kernel().launch(launch));
  EXPECT_EQ(memory.output, result);
}

struct Mistake {
  const char* name;
  const char* field;
  std::function<void(EmulatedLaunch&, Memory&)> make;
};

std::ostream& operator<<(std::ostream& stream, const Mistake& mistake) { return stream << mistake.name; }

class EmulatedLaunchMistakes : public testing::TestWithParam<Mistake> {};

TEST_P(EmulatedLaunchMistakes, AreRefusedBeforeAnythingRuns) {
  Memory memory;
  EmulatedLaunch launch = memory.launch();
  GetParam().make(launch, memory);
  const auto ran = launched_kernel().launch(launch);
  ASSERT_FALSE(ran);
  EXPECT_EQ(ran.error().code, ErrorCode::invalid_argument);
  EXPECT_THAT(ran.error().message, testing::StartsWith(std::string(GetParam().field) + ":"));
  EXPECT_THAT(memory.output, testing::Each(kPoison));
}

INSTANTIATE_TEST_SUITE_P(
    Fields, EmulatedLaunchMistakes,
    testing::Values(Mistake{"TableTooShort", "table",
                            [](EmulatedLaunch& launch, Memory&) {
                              launch.table = launch.table.first(launch.table.size() - 1);
                            }},
                    Mistake{"NoTable", "table", [](EmulatedLaunch& launch, Memory&) { launch.table = {}; }},
                    Mistake{"WeightsTooShort", "weights",
                            [](EmulatedLaunch& launch, Memory&) {
                              launch.weights = launch.weights.first(launch.weights.size() - 16);
                            }},
                    Mistake{"WeightsTooLong", "weights",
                            [](EmulatedLaunch& launch, Memory& memory) { launch.weights = memory.weights; }},
                    Mistake{"WeightsMisaligned", "weights",
                            [](EmulatedLaunch& launch, Memory& memory) {
                              launch.weights = std::span(memory.weights).subspan(8, launch.weights.size());
                            }},
                    Mistake{"NoToken", "m", [](EmulatedLaunch& launch, Memory&) { launch.m = 0; }},
                    Mistake{"TooManyTokens", "m",
                            [](EmulatedLaunch& launch, Memory&) { launch.m = (std::int64_t{1} << 30) + 1; }},
                    Mistake{"ActivationStrideOfNoMultipleOf8", "activation_stride",
                            [](EmulatedLaunch& launch, Memory&) { launch.activation_stride = 268; }},
                    Mistake{"ActivationStrideBelowK", "activation_stride",
                            [](EmulatedLaunch& launch, Memory&) { launch.activation_stride = 256; }},
                    Mistake{"ActivationStrideNegative", "activation_stride",
                            [](EmulatedLaunch& launch, Memory&) { launch.activation_stride = -264; }},
                    Mistake{"OutputStrideBelowN", "output_stride",
                            [](EmulatedLaunch& launch, Memory&) { launch.output_stride = 39; }},
                    Mistake{"OutputStrideNegative", "output_stride",
                            [](EmulatedLaunch& launch, Memory&) { launch.output_stride = -40; }},
                    Mistake{"ActivationsTooShort", "activations",
                            [](EmulatedLaunch& launch, Memory&) {
                              launch.activations = launch.activations.first(launch.activations.size() - 1);
                            }},
                    Mistake{"ActivationsTooShortForTheirStride", "activations",
                            [](EmulatedLaunch& launch, Memory&) { launch.activation_stride = 272; }},
                    Mistake{"ActivationsMisaligned", "activations",
                            [](EmulatedLaunch& launch, Memory& memory) {
                              launch.activations =
                                  std::span(memory.activations).subspan(1, launch.activations.size());
                            }},
                    Mistake{"OutputTooShort", "output",
                            [](EmulatedLaunch& launch, Memory&) {
                              launch.output = launch.output.first(launch.output.size() - 1);
                            }},
                    Mistake{"OutputTooShortForItsStride", "output",
                            [](EmulatedLaunch& launch, Memory&) { launch.output_stride = 41; }},
                    Mistake{"NoPartition", "partition",
                            [](EmulatedLaunch& launch, Memory&) { launch.partition = {}; }},
                    Mistake{"PartitionOfMoreTokens", "partition",
                            [](EmulatedLaunch& launch, Memory&) { launch.partition = partition_for(9); }}),
    [](const auto& mistake) { return std::string(mistake.param.name); });

}  // namespace
}  // namespace lutsmith::emulator_test
