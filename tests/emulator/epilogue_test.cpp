// What kernels make of their sums before they round them: bias, residual and gates, in every family.

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "core/output_values.h"
#include "emulation.h"
#include "must.h"

namespace lutsmith::emulator_test {
namespace {

using emulator::BlockOrder;
using emulator::EmulatedKernel;

/// A kernel's schedule and target, with a shape that fills no tile of it.
struct Shape {
  const char* name;
  const char* target;
  Schedule schedule;
  std::int64_t n;  ///< a multiple of 16
  std::int64_t m;
  int cut_partitions;  ///< that cut tiles

  friend void PrintTo(const Shape& shape, std::ostream* out) { *out << shape.name; }
};

const Shape kShapes[] = {
    {"few_tokens", "sm_80",
     FewTokensSchedule{.tile_rows = 32, .tile_tokens = 8, .warps = 2, .weights = WeightPath::async_copy}, 80,
     11, 7},
    {"one_token", "sm_90a",
     FewTokensSchedule{.tile_rows = 16, .tile_tokens = 1, .warps = 1, .dependent_launch = true}, 80, 1, 7},
    {"multistage", "sm_80",
     MultistageSchedule{.tile_rows = 128,
                        .tile_tokens = 32,
                        .warp_rows = 32,
                        .k_groups = 1,
                        .stage_columns = 64,
                        .activation_stages = 2},
     144, 43, 7},
    {"multistage_groups", "sm_100a",
     MultistageSchedule{.tile_rows = 128,
                        .tile_tokens = 64,
                        .warp_rows = 16,
                        .k_groups = 2,
                        .stage_columns = 64,
                        .activation_stages = 2,
                        .dependent_launch = true},
     144, 75, 13},
    {"many_tokens", "sm_90a",
     ManyTokensSchedule{.tile_rows = 128,
                        .tile_tokens = 64,
                        .k_groups = 1,
                        .commit_steps = 4,
                        .activation_stages = 2,
                        .weight_stages = 1,
                        .dependent_launch = true},
     144, 75, 13},
    {"many_tokens_groups", "sm_90a",
     ManyTokensSchedule{.tile_rows = 128,
                        .tile_tokens = 32,
                        .k_groups = 2,
                        .commit_steps = 4,
                        .activation_stages = 4,
                        .weight_stages = 2},
     144, 43, 7},
    {"many_tokens_clusters", "sm_90a",
     ManyTokensSchedule{.tile_rows = 128,
                        .tile_tokens = 32,
                        .k_groups = 1,
                        .cluster_blocks = 2,
                        .commit_steps = 4,
                        .activation_stages = 2,
                        .weight_stages = 1},
     144, 43, 7},
};

KernelSpec spec_of(const Shape& shape, int group = 128, DataType dtype = DataType::bf16) {
  return {.format = {.bits = 4, .group = group, .n = shape.n, .k = 392, .dtype = dtype},
          .m = shape.m,
          .target = must(Target::parse(shape.target))};
}

/// Every order of the blocks, and places of R and Y that allow 16 bytes at a time and that do not.
const std::vector<EmulationOptions> kPlaces = {
    EmulationOptions{},
    EmulationOptions{.order = BlockOrder::descending, .output_padding = 0, .in_place = true},
    EmulationOptions{.output_padding = 3, .in_place = true},
    EmulationOptions{.order = BlockOrder::interleaved, .output_padding = 3, .residual_padding = 0},
    EmulationOptions{.residual_padding = 5},
    EmulationOptions{.output_offset = 1, .residual_offset = 1},
};

/// Whole and cut, everywhere: the float64 numbers, and the same bits. Those bits, whole and cut.
std::vector<std::vector<std::byte>> expect_right_everywhere(
    const KernelSpec& spec, const Shape& shape, const Problem& problem,
    const std::vector<EmulationOptions>& places = kPlaces) {
  SCOPED_TRACE(describe(spec));
  const Source source = must(render(spec, shape.schedule));
  const EmulatedKernel kernel = must(EmulatedKernel::compile(host_compiler(), spec, source));
  std::vector<std::vector<std::byte>> results;
  for (const int partitions : {1, shape.cut_partitions}) {
    SCOPED_TRACE(std::to_string(partitions) + " partitions");
    const Partition cut = must(partition(source.launch, shape.m, 1, partitions));
    EXPECT_EQ(cut.steps_per_grain * cut.grains_per_partition % source.launch.steps_per_tile != 0,
              partitions > 1)
        << "whether tiles are cut";
    std::vector<std::byte> expected;
    for (EmulationOptions options : places) {
      options.partitions = partitions;
      if (problem.residual.empty() && options.in_place) continue;
      const auto result = emulate_bytes(kernel, source, problem, options);
      if (!result) {
        ADD_FAILURE() << result.error().message << "\n" << result.error().context;
        return results;
      }
      if (expected.empty()) {
        EXPECT_LE(error_of(problem, *result), tolerance(spec));
        expected = *result;
      }
      EXPECT_EQ(*result, expected) << "padding " << options.output_padding << " and "
                                   << options.residual_padding;
    }
    results.push_back(expected);
  }
  return results;
}

class Epilogues : public testing::TestWithParam<Shape> {};

TEST_P(Epilogues, AResidualIsAddedBeforeTheSumIsRounded) {
  KernelSpec spec = spec_of(GetParam(), kPerChannel);  // else scaled weights may have been rounded before
  spec.residual = true;
  Problem problem = make_problem(spec, GetParam().m);
  oppose_sums(problem);
  expect_right_everywhere(spec, GetParam(), problem);
}

TEST_P(Epilogues, ABiasAndAResidualAreAddedToScaledSums) {
  KernelSpec spec = spec_of(GetParam(), kPerChannel, DataType::f16);
  spec.residual = true;
  spec.bias = true;
  expect_right_everywhere(spec, GetParam(), make_problem(spec, GetParam().m));
}

TEST_P(Epilogues, ABiasIsAdded) {
  KernelSpec spec = spec_of(GetParam(), 64, DataType::f16);
  spec.bias = true;
  expect_right_everywhere(spec, GetParam(), make_problem(spec, GetParam().m));
}

TEST_P(Epilogues, WeightsWithOffsetsHaveThemToo) {
  KernelSpec spec = spec_of(GetParam(), kPerChannel, DataType::f16);
  spec.format.offsets = true;
  spec.residual = true;
  spec.bias = true;
  expect_right_everywhere(spec, GetParam(), make_problem(spec, GetParam().m));
}

TEST_P(Epilogues, GatesLetThroughWhatBelongsToThem) {
  KernelSpec spec = spec_of(GetParam(), 128, DataType::f16);
  spec.gated = Gate::silu;
  expect_right_everywhere(spec, GetParam(), make_problem(spec, GetParam().m));
  spec = spec_of(GetParam(), kPerChannel);
  spec.gated = Gate::gelu_tanh;
  expect_right_everywhere(spec, GetParam(), make_problem(spec, GetParam().m));
}

TEST_P(Epilogues, GatesThatAreWideOpenOrShutGiveNumbers) {
  KernelSpec spec = spec_of(GetParam());
  for (const Gate gate : {Gate::silu, Gate::gelu_tanh}) {
    spec.gated = gate;
    Problem problem = make_problem(spec, GetParam().m);
    // bf16: the products of thousands by thousands are far from its end.
    for (std::uint16_t& value : problem.activations) {
      value = to_bits(from_bits(value, DataType::bf16) * 0x1p12F, DataType::bf16);
    }
    expect_right_everywhere(spec, GetParam(), problem);
  }
}

TEST_P(Epilogues, SumsAreRoundedOnceToEveryTypeOfOutput) {
  KernelSpec spec = spec_of(GetParam(), kPerChannel, DataType::f16);
  spec.format.n -= 4;  // the last rows are no whole piece of 16 bytes
  spec.residual = spec.bias = true;
  spec.output = OutputType::f32;
  Problem problem = make_problem(spec, GetParam().m);
  share_residual(problem);
  // Elements are written one at a time, wherever they are.
  const auto sums = expect_right_everywhere(
      spec, GetParam(), problem,
      {{.output_padding = 3, .residual_offset = 1}, {.order = BlockOrder::descending, .in_place = true}});
  spec.output = problem.output = OutputType::bf16;
  const auto rounded = expect_right_everywhere(spec, GetParam(), problem, {{.in_place = true}});
  ASSERT_EQ(sums.size(), rounded.size());
  for (std::size_t i = 0; i < sums.size(); ++i) {
    EXPECT_EQ(core::bytes_of(core::values_of(sums[i], OutputType::f32), OutputType::bf16), rounded[i]);
  }
}

TEST_P(Epilogues, GatedSumsAreWrittenInFp32) {
  KernelSpec spec = spec_of(GetParam(), kPerChannel);
  spec.output = OutputType::f32;
  spec.gated = Gate::silu;
  expect_right_everywhere(spec, GetParam(), make_problem(spec, GetParam().m), {{.output_offset = 1}});
}

INSTANTIATE_TEST_SUITE_P(Families, Epilogues, testing::ValuesIn(kShapes),
                         [](const auto& shape) { return shape.param.name; });

}  // namespace
}  // namespace lutsmith::emulator_test
