#include "tuning/partition_counts.h"

#include <algorithm>
#include <set>
#include <tuple>

namespace lutsmith::tuning {
namespace {

constexpr std::int64_t kMostWaves = 4;

std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

/// The fewest partitions none of which has more than `all` cut into `most` has at most: 100 tiles on 64
/// blocks take two each, and so do 50.
std::int64_t evened_out(std::int64_t all, std::int64_t most) { return ceil_div(all, ceil_div(all, most)); }

}  // namespace

std::vector<int> partition_counts(const LaunchRecipe& recipe, std::int64_t m, int multiprocessors) {
  const Result<Partition> standard = partition(recipe, m, multiprocessors);
  if (!standard) return {};
  const std::int64_t tiles = recipe.row_tiles * ceil_div(m, recipe.tile_tokens);
  const std::int64_t steps = tiles * recipe.steps_per_tile;
  const std::int64_t multiprocessor_count = multiprocessors / recipe.cluster_blocks;

  std::vector<std::int64_t> wanted{multiprocessor_count / 2, multiprocessor_count * 3 / 4, tiles};
  // Where blocks take whole tiles first, several waves are but one with more to hand over; equal parts are
  // worth more.
  const bool in_waves = recipe.most_parts > 0;
  for (const std::int64_t parts : {2, 3, 4, 6, 8, 12, 16}) {
    if (in_waves && parts * tiles <= multiprocessor_count) wanted.push_back(parts * tiles);
  }
  const std::int64_t most_waves = in_waves ? 1 : kMostWaves;
  for (std::int64_t wave = 1; wave <= most_waves; ++wave) {
    const std::int64_t blocks = wave * multiprocessor_count;
    wanted.push_back(blocks);
    wanted.push_back(evened_out(steps, blocks));
    wanted.push_back(evened_out(tiles, std::min(tiles, blocks)));
  }
  const std::int64_t most = most_waves * multiprocessor_count;
  std::set<int> counts{standard->partitions};
  std::set<std::tuple<int, int, int, int, int>> cuts;  // two counts may come to the same cut
  for (const std::int64_t count : wanted) {
    if (count < 1 || count > std::max<std::int64_t>(most, standard->partitions)) continue;
    const Result<Partition> cut = partition(recipe, m, multiprocessors, static_cast<int>(count));
    if (!cut) continue;
    const bool added = cuts.emplace(cut->partitions, cut->steps_per_grain, cut->grains_per_partition,
                                    cut->extra_grains, cut->whole_tiles)
                           .second;
    if (added) counts.insert(cut->partitions);
  }
  return {counts.begin(), counts.end()};
}

}  // namespace lutsmith::tuning
