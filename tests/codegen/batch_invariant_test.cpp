// What batch-invariant kernels may be, and how their launches are cut.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <variant>

#include "lutsmith/codegen.h"

namespace lutsmith {
namespace {

using testing::HasSubstr;

KernelSpec spec_of(const Target& target, std::int64_t m, int bits = 4, int group = 128) {
  return {.format = {.bits = bits, .group = group, .n = 4096, .k = 4096},
          .m = m,
          .target = target,
          .batch_invariant = true};
}

TEST(BatchInvariantTest, EveryNumberOfTokensHasSchedulesThatAddInOneOrder) {
  for (const TargetTraits& traits : Target::all()) {
    const Target target = *Target::parse(traits.name);
    for (const std::int64_t m : kTokenBuckets) {
      for (const int bits : {1, 2, 3, 4}) {
        for (const int group : {32, 64, 128, 256, kPerChannel}) {
          const KernelSpec spec = spec_of(target, m, bits, group);
          const auto candidates = schedules(spec);
          ASSERT_TRUE(candidates.has_value());
          EXPECT_FALSE(candidates->empty()) << describe(spec);
          for (const Schedule& schedule : *candidates) {
            ASSERT_TRUE(validate(spec, schedule).has_value()) << describe(spec) << ", " << describe(schedule);
            if (const auto* own = std::get_if<MultistageSchedule>(&schedule)) {
              EXPECT_FALSE(traits.warpgroup_products);
              EXPECT_FALSE(own->scale_sums);
              EXPECT_EQ(own->k_groups, 1);
            } else {
              ASSERT_TRUE(std::holds_alternative<ManyTokensSchedule>(schedule));
              EXPECT_EQ(std::get<ManyTokensSchedule>(schedule).k_groups, 1);
              EXPECT_EQ(std::get<ManyTokensSchedule>(schedule).cluster_blocks, 1);
            }
          }
        }
      }
    }
  }
}

TEST(BatchInvariantTest, SchedulesThatAddInAnotherOrderAreRefused) {
  const KernelSpec hopper = spec_of(*Target::parse("sm_90a"), 64);
  const KernelSpec ampere = spec_of(*Target::parse("sm_80"), 64);
  for (const KernelSpec& spec : {hopper, ampere}) {
    KernelSpec free = spec;
    free.batch_invariant = false;
    const Schedule few = FewTokensSchedule{};
    ASSERT_TRUE(validate(free, few).has_value());
    ASSERT_FALSE(validate(spec, few).has_value());
    EXPECT_THAT(validate(spec, few).error().message, HasSubstr("k_groups 1"));
    EXPECT_FALSE(render(spec, few).has_value());
  }
  EXPECT_FALSE(validate(hopper, ManyTokensSchedule{.k_groups = 2}).has_value());
  ASSERT_TRUE(validate(hopper, ManyTokensSchedule{.k_groups = 1}).has_value());
  const auto clusters = validate(hopper, ManyTokensSchedule{.k_groups = 1, .cluster_blocks = 2});
  ASSERT_FALSE(clusters.has_value());
  EXPECT_THAT(clusters.error().message, HasSubstr("cluster_blocks 1"));
  EXPECT_FALSE(validate(hopper, MultistageSchedule{}).has_value());
  EXPECT_FALSE(validate(ampere, MultistageSchedule{.k_groups = 2}).has_value());
  EXPECT_FALSE(validate(ampere, MultistageSchedule{.scale_sums = true}).has_value());
}

TEST(BatchInvariantTest, NoTileIsCutForAnyNumberOfTokensAndPartitions) {
  for (const char* target : {"sm_90a", "sm_80"}) {
    const KernelSpec spec = spec_of(*Target::parse(target), 64);
    const LaunchRecipe recipe = render(spec, schedules(spec)->front())->launch;
    ASSERT_TRUE(recipe.whole_tiles_only);
    for (const std::int64_t m : {1, 17, 64, 65, 300, 1000, 4096, 10000}) {
      const std::int64_t tiles = recipe.row_tiles * ((m + recipe.tile_tokens - 1) / recipe.tile_tokens);
      for (const int wanted : {0, 1, 2, 7, 33, 131, 132, 264, 1000, 100000}) {
        const auto cut = partition(recipe, m, 132, wanted);
        ASSERT_TRUE(cut.has_value());
        EXPECT_EQ(cut->steps_per_grain, recipe.steps_per_tile) << m << " tokens, " << wanted << " wanted";
        EXPECT_EQ(std::int64_t{cut->sharing} * cut->grains_per_partition + cut->extra_grains +
                      std::int64_t{cut->whole_tiles} * cut->partitions,
                  tiles);
      }
    }
  }
}

TEST(BatchInvariantTest, TheSourceSaysSoOnlyWhereItIsAsked) {
  KernelSpec spec = spec_of(*Target::parse("sm_90a"), 64);
  const Schedule schedule = schedules(spec)->front();
  const Source invariant = *render(spec, schedule);
  EXPECT_THAT(invariant.text, HasSubstr("steps each, none cut\n"));
  spec.batch_invariant = false;
  const Source free = *render(spec, schedule);
  EXPECT_FALSE(free.launch.whole_tiles_only);
  // Another key, since the same code is launched otherwise.
  EXPECT_NE(free.text, invariant.text);
  EXPECT_THAT(free.text, HasSubstr("steps each\n"));
}

}  // namespace
}  // namespace lutsmith
