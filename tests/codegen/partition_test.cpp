#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

#include "lutsmith/codegen.h"

namespace lutsmith {
namespace {

/// First step of partition `index`, from the rule that codegen.h states.
std::int64_t first_step(const Partition& cut, std::int64_t index) {
  const std::int64_t grains =
      index * cut.grains_per_partition + std::min<std::int64_t>(index, cut.extra_grains);
  return grains * cut.steps_per_grain;
}

std::int64_t total_steps(const LaunchRecipe& recipe, std::int64_t m) {
  return recipe.row_tiles * ((m + recipe.tile_tokens - 1) / recipe.tile_tokens) * recipe.steps_per_tile;
}

LaunchRecipe recipe_of(std::int64_t row_tiles, int steps_per_tile, int tile_tokens = 8) {
  return {.threads = 256,
          .shared_bytes = 0,
          .tile_rows = 16,
          .tile_tokens = tile_tokens,
          .row_tiles = row_tiles,
          .steps_per_tile = steps_per_tile,
          .fix_up_steps = 15};
}

TEST(PartitionTest, EveryStepBelongsToExactlyOneNonEmptyPartition) {
  for (const std::int64_t row_tiles : {1, 2, 7, 63, 128, 192, 1792}) {
    for (const int steps : {1, 2, 3, 7, 28}) {
      for (const std::int64_t m : {1, 8, 9, 100}) {
        const LaunchRecipe recipe = recipe_of(row_tiles, steps);
        for (const int wanted : {0, 1, 2, 3, 5, 131, 132, 133, 1000000}) {
          const Result<Partition> cut = partition(recipe, m, 132, wanted);
          ASSERT_TRUE(cut.has_value());
          ASSERT_GE(cut->partitions, 1);
          ASSERT_GE(cut->grains_per_partition, 1);
          ASSERT_LT(cut->extra_grains, cut->partitions);
          EXPECT_EQ(first_step(*cut, cut->partitions), total_steps(recipe, m))
              << row_tiles << " tiles, " << steps << " steps, m " << m << ", wanted " << wanted;
        }
      }
    }
  }
}

TEST(PartitionTest, TheNumberAskedForIsUsedUpToTheNumberOfSteps) {
  const LaunchRecipe recipe = recipe_of(10, 3);
  for (int wanted = 1; wanted <= 30; ++wanted) {
    EXPECT_EQ(partition(recipe, 1, 132, wanted)->partitions, wanted);
  }
  EXPECT_EQ(partition(recipe, 1, 132, 31)->partitions, 30);
}

TEST(PartitionTest, TilesStayWholeWhereThatBalancesAsWell) {
  // 264 tiles on 132 multiprocessors: two each, nothing to gain from cutting.
  const Result<Partition> even = partition(recipe_of(264, 4), 1, 132);
  EXPECT_EQ(even->steps_per_grain, 4);
  EXPECT_EQ(even->partitions, 132);
  // 10 tiles of 28 steps would leave 122 multiprocessors idle.
  const Result<Partition> few = partition(recipe_of(10, 28), 1, 132);
  EXPECT_EQ(few->steps_per_grain, 1);
  EXPECT_EQ(few->partitions, 132);
}

TEST(PartitionTest, ResidentBlocksEachGetAPartition) {
  LaunchRecipe recipe = recipe_of(1000, 4);
  recipe.blocks_per_multiprocessor = 2;
  EXPECT_EQ(partition(recipe, 1, 132)->partitions, 264);
}

TEST(PartitionTest, MoreStepsThanALaunchCountsAreRefused) {
  const Result<Partition> cut = partition(recipe_of(std::int64_t{1} << 20, 1 << 10), 1 << 10, 132);
  ASSERT_FALSE(cut.has_value());
  EXPECT_EQ(cut.error().code, ErrorCode::invalid_argument);
  EXPECT_THAT(cut.error().message, testing::HasSubstr("split the tokens"));
}

TEST(PartitionTest, NumbersOfTokensThatCannotBeAreRefused) {
  for (const std::int64_t m : {std::int64_t{0}, std::int64_t{-5}, std::numeric_limits<std::int64_t>::max()}) {
    const Result<Partition> cut = partition(recipe_of(100, 3), m, 132);
    ASSERT_FALSE(cut.has_value()) << m;
    EXPECT_THAT(cut.error().message, testing::HasSubstr("m: "));
  }
}

}  // namespace
}  // namespace lutsmith
