#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "codegen/families.h"
#include "lutsmith/codegen.h"

namespace lutsmith {
namespace {

using testing::AllOf;
using testing::HasSubstr;

KernelSpec spec_on(const char* target) {
  return {.format = {.n = 4096, .k = 4096}, .m = 1, .target = *Target::parse(target)};
}

struct BadSchedule {
  std::string name;
  std::string target;
  std::function<void(FewTokensSchedule&)> spoil;
  std::string field;
  std::string allowed;
};

void PrintTo(const BadSchedule& bad, std::ostream* out) { *out << bad.name; }

class BadScheduleTest : public testing::TestWithParam<BadSchedule> {};

TEST_P(BadScheduleTest, IsRefusedNamingFieldAndWhatIsAllowed) {
  FewTokensSchedule schedule;
  GetParam().spoil(schedule);
  const Result<void> result = validate(spec_on(GetParam().target.c_str()), schedule);
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().code, ErrorCode::invalid_argument);
  EXPECT_THAT(result.error().message,
              AllOf(testing::StartsWith(GetParam().field + ": "), HasSubstr(GetParam().allowed)));
}

INSTANTIATE_TEST_SUITE_P(
    Fields, BadScheduleTest,
    testing::Values(
        BadSchedule{"rows", "sm_90a", [](FewTokensSchedule& s) { s.tile_rows = 24; }, "tile_rows", "16, 32"},
        BadSchedule{"tokens", "sm_90a", [](FewTokensSchedule& s) { s.tile_tokens = 4; }, "tile_tokens",
                    "1, 8, 16"},
        BadSchedule{"no_warps", "sm_90a", [](FewTokensSchedule& s) { s.warps = 0; }, "warps", "1 to 16"},
        BadSchedule{"many_warps", "sm_90a", [](FewTokensSchedule& s) { s.warps = 17; }, "warps", "1 to 16"},
        BadSchedule{"stages", "sm_90a", [](FewTokensSchedule& s) { s.stages = 4; }, "stages", "2 to 3"},
        BadSchedule{"ring_stages", "sm_90a",
                    [](FewTokensSchedule& s) {
                      s.weights = WeightPath::bulk_copy;
                      s.stages = 9;
                    },
                    "stages", "2 to 8"},
        BadSchedule{"blocks", "sm_86",
                    [](FewTokensSchedule& s) {
                      s.warps = 16;
                      s.blocks_per_multiprocessor = 4;
                    },
                    "blocks_per_multiprocessor", "1 to 3"},
        BadSchedule{"bulk_copy_on_ampere", "sm_80",
                    [](FewTokensSchedule& s) { s.weights = WeightPath::bulk_copy; }, "weights",
                    "registers, async_copy"},
        BadSchedule{"dependent_launch_on_ada", "sm_89",
                    [](FewTokensSchedule& s) { s.dependent_launch = true; }, "dependent_launch", "off"},
        BadSchedule{"shared_memory", "sm_86",
                    [](FewTokensSchedule& s) {
                      s.weights = WeightPath::async_copy;
                      s.stages = 8;
                    },
                    "schedule", "fewer warps"}),
    [](const testing::TestParamInfo<BadSchedule>& bad) { return bad.param.name; });

TEST(ScheduleTest, EverySpecHasCandidatesThatAreValidAndFitTheRegisters) {
  for (const TargetTraits& traits : Target::all()) {
    for (const int bits : {1, 2, 3, 4}) {
      for (const int group : {32, 256, kPerChannel}) {
        for (const std::int64_t m : {1, 8, 16, 300}) {
          for (const std::int64_t k : {8, 1376, 4096, 14336}) {
            KernelSpec spec = spec_on(std::string(traits.name).c_str());
            spec.format.bits = bits;
            spec.format.group = group;
            spec.m = m;
            spec.format.k = k;
            const Result<std::vector<Schedule>> candidates = schedules(spec);
            ASSERT_TRUE(candidates.has_value());
            ASSERT_FALSE(candidates->empty()) << describe(spec);
            for (const Schedule& schedule : *candidates) {
              EXPECT_TRUE(validate(spec, schedule).has_value()) << describe(schedule);
              visit_family(schedule, [&]<class Family>(const auto& own) {
                EXPECT_LE(Family::estimated_registers(spec, own), Family::register_limit(own))
                    << describe(schedule);
              });
            }
          }
        }
      }
    }
  }
}

/// One kernel of each kind that spilled when it was compiled for docs/registers.md, NVRTC 13.0.
struct SpillingKernel {
  const char* target;
  int bits;
  int group;
  std::int64_t m;
  std::int64_t n;
  std::int64_t k;
  FewTokensSchedule schedule;
};

TEST(ScheduleTest, KernelsKnownToSpillAreNotOffered) {
  using enum WeightPath;
  constexpr SpillingKernel kKernels[] = {
      {"sm_80", 3, 64, 16, 2304, 9216, {32, 16, 12, async_copy, 2, 1}},
      {"sm_80", 3, 128, 64, 2304, 9216, {32, 16, 12, async_copy, 2, 1}},
      {"sm_80", 4, 64, 64, 2048, 5632, {32, 16, 11, async_copy, 2, 1}},
      {"sm_89", 2, kPerChannel, 32, 4096, 11008, {16, 16, 8, async_copy, 2, 2}},
      {"sm_89", 2, 128, 64, 4096, 11008, {16, 16, 8, async_copy, 2, 2}},
      {"sm_80", 2, 256, 16, 8192, 8192, {16, 16, 16, async_copy, 2, 1}},
      {"sm_80", 4, kPerChannel, 32, 2560, 13696, {16, 16, 16, async_copy, 2, 1}},
      {"sm_80", 4, 128, 64, 1152, 6912, {16, 16, 16, async_copy, 2, 1}},
      {"sm_80", 4, 256, 32, 2048, 7168, {16, 16, 14, async_copy, 2, 1}},
      {"sm_90a", 2, 32, 8, 2304, 9216, {32, 8, 16, bulk_copy, 2, 1}},
      {"sm_103a", 3, 32, 8, 4096, 11008, {32, 8, 16, bulk_copy, 2, 1}},
      {"sm_121a", 2, kPerChannel, 128, 512, 4096, {16, 16, 8, bulk_copy, 2, 2}},
      {"sm_120a", 2, 128, 16, 8192, 8192, {16, 16, 16, bulk_copy, 2, 1}},
      {"sm_121a", 2, 256, 16, 27648, 5120, {16, 16, 8, bulk_copy, 2, 2}},
      {"sm_120a", 3, kPerChannel, 128, 2048, 7168, {16, 16, 14, bulk_copy, 2, 1}},
      {"sm_90a", 4, 256, 16, 896, 4864, {16, 16, 16, bulk_copy, 2, 1}},
      {"sm_100a", 2, 64, 256, 5120, 3456, {32, 16, 9, bulk_copy, 2, 1}},
      {"sm_100a", 4, 64, 256, 2304, 2304, {32, 16, 9, bulk_copy, 2, 1}},
      {"sm_121a", 2, 32, 128, 2304, 9216, {16, 16, 12, registers, 2, 1}},
      {"sm_120a", 3, 32, 128, 1152, 6912, {16, 16, 9, registers, 2, 1}},
      {"sm_121a", 3, 128, 32, 5376, 21504, {32, 16, 12, registers, 2, 1}},
      {"sm_80", 4, kPerChannel, 256, 2048, 5632, {32, 16, 11, registers, 2, 1}},
      {"sm_80", 4, 32, 16, 4096, 14336, {32, 16, 8, registers, 2, 1}},
  };
  for (const SpillingKernel& kernel : kKernels) {
    const KernelSpec spec{
        .format = {.bits = kernel.bits, .group = kernel.group, .n = kernel.n, .k = kernel.k},
        .m = kernel.m,
        .target = *Target::parse(kernel.target)};
    FewTokensSchedule schedule = kernel.schedule;
    schedule.dependent_launch = spec.target.traits().dependent_launch;
    ASSERT_TRUE(validate(spec, schedule).has_value()) << describe(spec);
    EXPECT_GT(FewTokens::estimated_registers(spec, schedule), FewTokens::register_limit(schedule))
        << describe(spec) << ", " << describe(schedule);
    EXPECT_THAT(*schedules(spec), testing::Not(testing::Contains(Schedule(schedule)))) << describe(spec);
  }
}

TEST(ScheduleTest, TilesOfThreeWarpgroupsAndClustersOfTwoBlocksAreAllowed) {
  const auto refusal = [](const ManyTokensSchedule& schedule) {
    const Result<void> valid = validate(spec_on("sm_90a"), schedule);
    return valid ? std::string() : valid.error().message;
  };
  ManyTokensSchedule schedule{
      .tile_rows = 192, .tile_tokens = 192, .k_groups = 1, .activation_stages = 4, .weight_stages = 2};
  EXPECT_EQ(refusal(schedule), "");
  schedule.tile_tokens = 256;
  EXPECT_THAT(refusal(schedule), HasSubstr("tile_tokens: 256"));
  schedule.tile_tokens = 64;
  schedule.k_groups = 2;
  EXPECT_THAT(refusal(schedule), HasSubstr("k_groups: 2"));
  schedule.k_groups = 1;
  schedule.cluster_blocks = 2;
  EXPECT_EQ(refusal(schedule), "");
  for (const int blocks : {0, 3}) {
    schedule.cluster_blocks = blocks;
    EXPECT_THAT(refusal(schedule), HasSubstr("cluster_blocks: " + std::to_string(blocks)));
  }
  schedule.cluster_blocks = 1;
  schedule.commit_steps = 2;
  EXPECT_THAT(refusal(schedule), HasSubstr("commit_steps: 2"));
}

TEST(ScheduleTest, TheUnitsOfAClusterAreTwiceAsLong) {
  KernelSpec spec = spec_on("sm_90a");
  spec.format.k = 3 * 128;
  ManyTokensSchedule schedule{.k_groups = 1};
  EXPECT_EQ(launch_recipe(spec, schedule).steps_per_tile, 3);
  EXPECT_EQ(launch_recipe(spec, schedule).workspace_per_partition.arrival_counters, 1);
  schedule.cluster_blocks = 2;
  const LaunchRecipe recipe = launch_recipe(spec, schedule);
  EXPECT_EQ(recipe.cluster_blocks, 2);
  EXPECT_EQ(recipe.steps_per_tile, 2) << "the second block has nothing of the last";
  EXPECT_EQ(recipe.workspace_per_partition.arrival_counters, 2);
}

TEST(ScheduleTest, TheOrderDependsOnTheSpecAlone) {
  const KernelSpec spec = spec_on("sm_90a");
  EXPECT_EQ(*schedules(spec), *schedules(spec));
}

TEST(ScheduleTest, NumbersOfTokensInOneBucketHaveTheSameSchedules) {
  for (const TargetTraits& traits : Target::all()) {
    for (const std::int64_t k : {1376, 8192, 13696}) {
      for (const std::int64_t m : {2, 3, 9, 17, 33, 65, 100, 129, 300, 5000}) {
        KernelSpec spec = spec_on(std::string(traits.name).c_str());
        spec.format.n = 2560;
        spec.format.k = k;
        spec.m = m;
        KernelSpec bucket = spec;
        bucket.m = token_bucket(m);
        EXPECT_EQ(*schedules(spec), *schedules(bucket)) << describe(spec);
      }
    }
  }
}

TEST(ScheduleTest, BothWeightPathsAreOffered) {
  for (const auto& [target, ring] :
       {std::pair{"sm_80", WeightPath::async_copy}, std::pair{"sm_90a", WeightPath::bulk_copy}}) {
    bool registers = false;
    bool rings = false;
    const std::vector<Schedule> candidates = *schedules(spec_on(target));
    for (const Schedule& schedule : candidates) {
      const WeightPath path = std::get<FewTokensSchedule>(schedule).weights;
      registers |= path == WeightPath::registers;
      rings |= path == ring;
    }
    EXPECT_TRUE(registers && rings) << target;
  }
}

TEST(ScheduleTest, DependentLaunchIsUsedWhereTheTargetHasIt) {
  EXPECT_TRUE(std::get<FewTokensSchedule>(schedules(spec_on("sm_90a"))->front()).dependent_launch);
  EXPECT_FALSE(std::get<FewTokensSchedule>(schedules(spec_on("sm_80"))->front()).dependent_launch);
}

TEST(ScheduleTest, AWeightPathsNameIsItsInverse) {
  for (const WeightPath path : {WeightPath::registers, WeightPath::async_copy, WeightPath::bulk_copy}) {
    EXPECT_EQ(parse_weight_path(to_string(path)), path);
  }
  EXPECT_THAT(parse_weight_path("tma").error().message, HasSubstr("registers, async_copy, bulk_copy"));
}

TEST(WorkspaceTest, HoldsThePartialSumsOfEveryCandidateOnEveryResidentBlock) {
  constexpr int kMultiprocessors = 132;
  const WorkspaceSize all = workspace_size(kMultiprocessors);
  for (const std::int64_t m : {1, 8, 16}) {
    KernelSpec spec = spec_on("sm_90a");
    spec.m = m;
    const std::vector<Schedule> candidates = *schedules(spec);
    for (const Schedule& schedule : candidates) {
      const LaunchRecipe launch = launch_recipe(spec, schedule);
      const int partitions = kMultiprocessors * launch.blocks_per_multiprocessor;
      const WorkspaceSize each = launch.workspace_per_partition;
      EXPECT_LE(static_cast<std::size_t>(partitions) * each.partial_sum_bytes, all.partial_sum_bytes);
      EXPECT_LE(partitions * each.arrival_counters, all.arrival_counters);
      // Two slots of a tile of floats.
      EXPECT_EQ(each.partial_sum_bytes,
                2 * sizeof(float) * static_cast<std::size_t>(launch.tile_rows * launch.tile_tokens));
    }
  }
}

TEST(FamilyTest, AConstantThatTheTemplateLacksIsReported) {
  KernelTemplate text("constexpr int kWarps = 4;");
  text.set_constant("kWarps", 8);
  EXPECT_EQ(text.text(), "constexpr int kWarps = 8;");
  EXPECT_TRUE(text.missing().empty());
  text.set_flag(constant_name("dependent_launch"), true);
  EXPECT_EQ(text.missing(), " kDependentLaunch = ");
}

}  // namespace
}  // namespace lutsmith
