#include "tuning/partition_counts.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <tuple>

#include "must.h"

namespace lutsmith::tuning {
namespace {

using test::must;

LaunchRecipe recipe(std::int64_t row_tiles, int steps_per_tile, int blocks = 1) {
  LaunchRecipe recipe;
  recipe.tile_tokens = 8;
  recipe.row_tiles = row_tiles;
  recipe.steps_per_tile = steps_per_tile;
  recipe.blocks_per_multiprocessor = blocks;
  recipe.fix_up_steps = 4;
  return recipe;
}

bool contains(const std::vector<int>& counts, int count) {
  return std::ranges::find(counts, count) != counts.end();
}

TEST(PartitionCounts, HoldWhatAPlainLaunchWouldUse) {
  for (const std::int64_t tiles : {1, 3, 100, 128, 897, 5000}) {
    for (const int steps : {1, 4, 28}) {
      for (const int blocks : {1, 2, 4}) {
        const LaunchRecipe each = recipe(tiles, steps, blocks);
        EXPECT_TRUE(contains(partition_counts(each, 1, 132), must(partition(each, 1, 132)).partitions))
            << tiles << " tiles of " << steps << ", " << blocks;
      }
    }
  }
}

TEST(PartitionCounts, GoFromFewerThanTheMultiprocessorsToSeveralOnEach) {
  const std::vector<int> counts = partition_counts(recipe(1000, 16), 1, 132);
  EXPECT_EQ(counts.front(), 66);
  EXPECT_EQ(counts.back(), 528);
  EXPECT_TRUE(std::ranges::is_sorted(counts));
  EXPECT_LE(counts.size(), 16U);
}

TEST(PartitionCounts, HoldThoseThatLeaveTilesWholeAndWavesFull) {
  // 300 tiles on 132 multiprocessors: three each, and 100 blocks do that as fast as 132.
  const std::vector<int> counts = partition_counts(recipe(300, 2), 1, 132);
  EXPECT_TRUE(contains(counts, 100));
  EXPECT_TRUE(contains(counts, 300));
  // 600 steps: five each for 120 blocks.
  EXPECT_TRUE(contains(counts, 120));
}

TEST(PartitionCounts, HoldEqualPartsAndOneWaveWhereWholeTilesComeFirst) {
  LaunchRecipe in_waves = recipe(12, 32);
  in_waves.most_parts = 8;
  const std::vector<int> few = partition_counts(in_waves, 1, 132);
  for (const int parts : {1, 2, 3, 4, 6, 8}) EXPECT_TRUE(contains(few, 12 * parts)) << parts;
  in_waves.row_tiles = 1000;
  const std::vector<int> many = partition_counts(in_waves, 1, 132);
  EXPECT_TRUE(contains(many, 132));
  EXPECT_EQ(many.back(), 132) << "a second wave is one more to hand over";
}

TEST(PartitionCounts, AreNeverMoreThanThereAreSteps) {
  EXPECT_EQ(partition_counts(recipe(1, 1), 1, 132), std::vector{1});
  EXPECT_EQ(partition_counts(recipe(2, 3), 1, 132).back(), 6);
}

TEST(PartitionCounts, CutTheWorkInDifferentWays) {
  const LaunchRecipe each = recipe(128, 4);
  std::set<std::tuple<int, int, int>> cuts;
  const std::vector<int> counts = partition_counts(each, 1, 132);
  for (const int count : counts) {
    const Partition cut = must(partition(each, 1, 132, count));
    EXPECT_EQ(cut.partitions, count);
    EXPECT_TRUE(cuts.emplace(cut.partitions, cut.steps_per_grain, cut.grains_per_partition).second) << count;
  }
}

TEST(PartitionCounts, AreNoneForTokensThatNoLaunchTakes) {
  EXPECT_TRUE(partition_counts(recipe(10, 10), 0, 132).empty());
}

}  // namespace
}  // namespace lutsmith::tuning
