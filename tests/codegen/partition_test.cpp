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

LaunchRecipe recipe_in_waves(std::int64_t row_tiles, int steps_per_tile, int most_parts = 8) {
  LaunchRecipe recipe = recipe_of(row_tiles, steps_per_tile, 64);
  recipe.most_parts = most_parts;
  recipe.fix_up_steps = 4;
  return recipe;
}

TEST(PartitionTest, WavesAndWhatIsLeftCoverEveryStepOnce) {
  for (const std::int64_t row_tiles : {1, 2, 7, 63, 66, 67, 131, 132, 133, 200, 1792}) {
    for (const int steps : {1, 2, 3, 32, 112}) {
      for (const std::int64_t m : {1, 64, 65, 1024}) {
        const LaunchRecipe recipe = recipe_in_waves(row_tiles, steps);
        for (const int wanted : {0, 1, 2, 5, 66, 131, 132, 133, 1000000}) {
          const Partition cut = partition(recipe, m, 132, wanted).value();
          ASSERT_GE(cut.partitions, 1);
          ASSERT_LE(cut.sharing, cut.partitions);
          const std::int64_t whole = std::int64_t{cut.partitions} * cut.whole_tiles * steps;
          const std::int64_t shared =
              (std::int64_t{cut.sharing} * cut.grains_per_partition + cut.extra_grains) * cut.steps_per_grain;
          EXPECT_EQ(whole + shared, total_steps(recipe, m));
          EXPECT_EQ(shared % steps, 0) << "what is shared are tiles";
          EXPECT_TRUE(cut.sharing > 0 || shared == 0);
        }
      }
    }
  }
}

TEST(PartitionTest, FewTilesAreCutIntoEqualParts) {
  // 32 tiles of 32 steps: four parts of 8 steps for each, and four multiprocessors idle.
  const Partition cut = partition(recipe_in_waves(32, 32), 64, 132).value();
  EXPECT_EQ(cut.partitions, 128);
  EXPECT_EQ(cut.sharing, 128);
  EXPECT_EQ(cut.grains_per_partition * cut.steps_per_grain, 8);
  EXPECT_EQ(cut.extra_grains, 0);
  // No more parts than the recipe allows.
  EXPECT_EQ(partition(recipe_in_waves(32, 32, 2), 64, 132)->partitions, 64);
}

TEST(PartitionTest, TilesThatAreLeftOverAfterWholeWavesAreCut) {
  // 2 * 132 + 12 tiles of 112 steps.
  const Partition cut = partition(recipe_in_waves(276, 112), 64, 132).value();
  EXPECT_EQ(cut.partitions, 132);
  EXPECT_EQ(cut.whole_tiles, 2);
  EXPECT_EQ(cut.sharing, 12 * 8);
  EXPECT_EQ(cut.grains_per_partition * cut.steps_per_grain, 14);
}

TEST(PartitionTest, ANumberThatWasAskedForIsKeptWhereThereAreFewTiles) {
  for (int wanted = 1; wanted <= 96; ++wanted) {
    EXPECT_EQ(partition(recipe_in_waves(3, 32), 64, 132, wanted)->partitions, wanted);
  }
}

TEST(PartitionTest, ResidentBlocksEachGetAPartition) {
  LaunchRecipe recipe = recipe_of(1000, 4);
  recipe.blocks_per_multiprocessor = 2;
  EXPECT_EQ(partition(recipe, 1, 132)->partitions, 264);
}

TEST(PartitionTest, ClustersAreCountedInsteadOfBlocks) {
  LaunchRecipe recipe = recipe_in_waves(32, 32);
  recipe.cluster_blocks = 2;
  EXPECT_EQ(resident_partitions(recipe, 132), 66);
  EXPECT_EQ(resident_partitions(recipe, 1), 1);
  // Two parts for each tile, where blocks would have made four.
  EXPECT_EQ(partition(recipe, 64, 132)->partitions, 64);
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
