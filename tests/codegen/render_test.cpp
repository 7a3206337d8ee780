#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "lutsmith/codegen.h"

namespace lutsmith {
namespace {

using testing::HasSubstr;
using testing::Not;

// No value here is the one that stands in the template, so that a constant left alone is noticed.
const KernelSpec kSpec{
    .format =
        {.bits = 3, .group = 64, .n = 1000, .k = 1032, .dtype = DataType::bf16, .table = TableKind::pair},
    .m = 9,
    .target = *Target::parse("sm_90a")};
const FewTokensSchedule kSchedule{.tile_rows = 16,
                                  .tile_tokens = 16,
                                  .warps = 9,
                                  .weights = WeightPath::bulk_copy,
                                  .stages = 5,
                                  .blocks_per_multiprocessor = 2,
                                  .dependent_launch = true};

std::string text_of(const KernelSpec& spec, const Schedule& schedule) {
  const Result<Source> source = render(spec, schedule);
  EXPECT_TRUE(source.has_value());
  return source ? source->text : std::string();
}

TEST(RenderTest, EveryConstantOfTheKernelIsSet) {
  const std::string text = text_of(kSpec, kSchedule);
  for (const char* line :
       {"kBits = 3;", "kGroup = 64;", "kN = 1000;", "kK = 1032;", "kElement = Element::bf16;",
        "kPairTable = true;", "kOffsets = false;", "kTileRows = 16;", "kTileTokens = 16;", "kWarps = 9;",
        "kStages = 5;", "kBlocksPerMultiprocessor = 2;", "kDependentLaunch = true;"}) {
    EXPECT_THAT(text, HasSubstr(line));
  }
}

TEST(RenderTest, TheSameSpecGivesTheSameText) {
  EXPECT_EQ(text_of(kSpec, kSchedule), text_of(kSpec, kSchedule));
}

void expect_self_contained(const std::string& text) {
  EXPECT_THAT(text, Not(HasSubstr("#include")));
  EXPECT_THAT(text, Not(HasSubstr("#pragma once")));
  EXPECT_LE(text.size(), 160U << 10);
}

TEST(RenderTest, TheTextIsOneSelfContainedFileOfAtMost160KiB) {
  for (const WeightPath path : {WeightPath::registers, WeightPath::async_copy, WeightPath::bulk_copy}) {
    FewTokensSchedule schedule = kSchedule;
    schedule.weights = path;
    schedule.stages = 2;
    expect_self_contained(text_of(kSpec, schedule));
  }
  KernelSpec many = kSpec;
  many.target = Target::parse("sm_90a").value();
  expect_self_contained(text_of(many, ManyTokensSchedule{}));
  for (const WeightPath path : {WeightPath::registers, WeightPath::bulk_copy}) {
    expect_self_contained(text_of(many, MultistageSchedule{.weights = path}));
  }
}

TEST(RenderTest, OnlyTheChosenWeightPathIsEmitted) {
  FewTokensSchedule schedule = kSchedule;
  EXPECT_THAT(text_of(kSpec, schedule), HasSubstr("copy_bulk"));
  schedule.weights = WeightPath::async_copy;
  EXPECT_THAT(text_of(kSpec, schedule), Not(HasSubstr("copy_bulk")));
  EXPECT_THAT(text_of(kSpec, schedule), HasSubstr("copy_async_16"));
  schedule.weights = WeightPath::registers;
  schedule.stages = 2;
  EXPECT_THAT(text_of(kSpec, schedule), Not(HasSubstr("copy_async_16")));
}

TEST(RenderTest, TextsWithOffsetsSaySoInTheHeadAndInTheNameOfTheKernel) {
  KernelSpec spec = kSpec;
  spec.format.offsets = true;
  const Result<Source> source = render(spec, kSchedule);
  ASSERT_TRUE(source.has_value());
  EXPECT_EQ(source->kernel_name, "lutsmith_w3_g64_n1000_k1032_t16_bf16_pair_offsets");
  EXPECT_THAT(source->text, HasSubstr("one scale and offset for 64 weights"));
  EXPECT_THAT(source->text, HasSubstr("kOffsets = true;"));
  expect_self_contained(source->text);
}

TEST(RenderTest, TheTextDependsOnTheTokensByTheScheduleAlone) {
  KernelSpec spec = kSpec;
  for (const std::int64_t m : {1, 7, 16, 5000}) {
    spec.m = m;
    EXPECT_EQ(text_of(spec, kSchedule), text_of(kSpec, kSchedule)) << m;
  }
}

TEST(RenderTest, WhatIsMadeOfTheSumsIsInTheNameAndTheConstants) {
  KernelSpec spec = kSpec;
  EXPECT_THAT(text_of(spec, kSchedule), AllOf(HasSubstr("kResidual = false;"), HasSubstr("kBias = false;"),
                                              HasSubstr("kGate = Gate::none;"), HasSubstr("_pair(const")));
  spec.residual = spec.bias = true;
  EXPECT_THAT(text_of(spec, kSchedule),
              AllOf(HasSubstr("kResidual = true;"), HasSubstr("kBias = true;"),
                    HasSubstr("_pair_residual_bias(const"), HasSubstr("^T + b + R, ")));
  spec = kSpec;
  spec.format.n = 1008;
  spec.gated = Gate::silu;
  EXPECT_THAT(text_of(spec, kSchedule),
              AllOf(HasSubstr("kGate = Gate::silu;"), HasSubstr("_pair_silu(const"), HasSubstr("Y[m, 504]")));
}

TEST(RenderTest, ATypeOfOutputIsNamedWhereItIsAnother) {
  KernelSpec spec = kSpec;
  spec.output = OutputType::f32;
  EXPECT_THAT(text_of(spec, kSchedule), AllOf(HasSubstr("kOutput = Element::f32;"),
                                              HasSubstr("_to_f32(const"), HasSubstr(", bf16 to f32, ")));
  spec.output = output_type_of(spec.format.dtype);
  EXPECT_TRUE(text_of(spec, kSchedule) == text_of(kSpec, kSchedule)) << "it is the same kernel";
}

TEST(RenderTest, TheHeadSaysWhatTheKernelIs) {
  const std::string text = text_of(kSpec, kSchedule);
  const std::string head = text.substr(0, text.find("\n\n"));
  for (const std::string& fact :
       {std::string("Y[m, 1000] = X[m, 1032]"), std::string("3-bit codes"), std::string("sm_90a"),
        describe(kSchedule), std::string("288 threads"), fmt::format("{} flops a token", 2 * 1000 * 1032)}) {
    EXPECT_THAT(head, HasSubstr(fact));
  }
}

TEST(RenderTest, TheKernelHasTheNameThatIsReturned) {
  const Result<Source> source = render(kSpec, kSchedule);
  ASSERT_TRUE(source.has_value());
  EXPECT_EQ(source->kernel_name, "lutsmith_w3_g64_n1000_k1032_t16_bf16_pair");
  EXPECT_THAT(source->text, HasSubstr(source->kernel_name + "("));
}

TEST(RenderTest, TheRecipeCoversTheRaggedShape) {
  const LaunchRecipe launch = render(kSpec, kSchedule)->launch;
  EXPECT_EQ(launch.threads, 9 * 32);
  EXPECT_EQ(launch.row_tiles, 63);      // 1000 rows in tiles of 16
  EXPECT_EQ(launch.steps_per_tile, 1);  // 1032 columns in 9 units of 128
  EXPECT_TRUE(launch.dependent_launch);
}

TEST(RenderTest, WhatIsInvalidIsNotRendered) {
  KernelSpec spec = kSpec;
  spec.format.bits = 9;
  EXPECT_EQ(render(spec, kSchedule).error().code, ErrorCode::invalid_argument);
  FewTokensSchedule schedule = kSchedule;
  schedule.warps = 40;
  EXPECT_EQ(render(kSpec, schedule).error().code, ErrorCode::invalid_argument);
}

}  // namespace
}  // namespace lutsmith
