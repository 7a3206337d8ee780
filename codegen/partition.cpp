#include <fmt/format.h>

#include <algorithm>

#include "core/result.h"
#include "lutsmith/codegen.h"

namespace lutsmith {
namespace {

std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

/// How the tiles that are left over after whole waves are shared, and how long the longest share takes, in
/// steps.
struct Share {
  std::int64_t blocks;
  bool whole;
  std::int64_t cost;
};

Share share_rest(const LaunchRecipe& recipe, std::int64_t waves, std::int64_t rest, std::int64_t partitions) {
  constexpr std::int64_t kLeastSteps = 2;  // a shorter part is over before its stages are filled
  const std::int64_t steps = recipe.steps_per_tile;
  const Share whole{.blocks = rest, .whole = true, .cost = steps};
  const std::int64_t parts = std::min<std::int64_t>(
      {partitions / rest, recipe.most_parts, std::max<std::int64_t>(1, steps / kLeastSteps)});
  // Parts that are no equal parts of a tile straddle two, so that a block has two to hand over.
  const Share cut =
      parts > 1 ? Share{rest * parts, false, ceil_div(steps, parts) + recipe.fix_up_steps}
                : Share{partitions, false, ceil_div(rest * steps, partitions) + 2 * recipe.fix_up_steps};
  if (parts > 1) return whole.cost <= cut.cost ? whole : cut;
  // Blocks whose parts straddle tiles are at different places along K from then on, and find less of X and
  // weights in L2: that has to be worth a good part of the launch.
  constexpr std::int64_t kLeastSaved = 32;
  return (whole.cost - cut.cost) * kLeastSaved <= (waves + 1) * steps ? whole : cut;
}

Partition waves_and_parts(const LaunchRecipe& recipe, std::int64_t tiles, std::int64_t resident, int wanted) {
  constexpr std::int64_t kMostBlocks = 1 << 15;  // their square fits the kernel's 32 bits
  const std::int64_t steps = recipe.steps_per_tile;
  const std::int64_t partitions =
      std::clamp<std::int64_t>(wanted > 0 ? wanted : resident, 1, std::min(tiles * steps, kMostBlocks));
  const std::int64_t waves = tiles / partitions;
  const std::int64_t rest = tiles % partitions;
  Partition cut{.partitions = static_cast<int>(partitions), .whole_tiles = static_cast<int>(waves)};
  if (rest == 0) {
    cut.steps_per_grain = recipe.steps_per_tile;
    return cut;
  }
  Share share = share_rest(recipe, waves, rest, partitions);
  if (wanted > 0 && waves == 0) share = {.blocks = partitions, .whole = false, .cost = 0};  // as asked for
  if (recipe.whole_tiles_only) share = {.blocks = rest, .whole = true, .cost = 0};
  const std::int64_t grains = share.whole ? rest : rest * steps;
  if (waves == 0) cut.partitions = static_cast<int>(share.blocks);
  cut.steps_per_grain = share.whole ? recipe.steps_per_tile : 1;
  cut.grains_per_partition = static_cast<int>(grains / share.blocks);
  cut.extra_grains = static_cast<int>(grains % share.blocks);
  cut.sharing = static_cast<int>(share.blocks);
  return cut;
}

}  // namespace

int resident_partitions(const LaunchRecipe& recipe, int multiprocessors) {
  return std::max(1, multiprocessors * recipe.blocks_per_multiprocessor / recipe.cluster_blocks);
}

Result<Partition> partition(const LaunchRecipe& recipe, std::int64_t m, int multiprocessors, int wanted) {
  if (m < 1) {
    return refuse(fmt::format("m: {} is not allowed; allowed: 1 or more", m));
  }
  // The kernel counts steps in 32 bits, with room for those of one tile more.
  constexpr std::int64_t kMostSteps = std::int64_t{1} << 30;
  const std::int64_t token_tiles = ceil_div(std::min(m, std::int64_t{1} << 40), recipe.tile_tokens);
  if (token_tiles > kMostSteps / recipe.row_tiles / recipe.steps_per_tile) {
    return refuse(
        fmt::format("m: {} tokens make more steps of work than one launch can count ({}); split the tokens "
                    "over several launches",
                    m, kMostSteps));
  }
  const std::int64_t tiles = recipe.row_tiles * token_tiles;
  const std::int64_t steps = tiles * recipe.steps_per_tile;
  const std::int64_t resident = resident_partitions(recipe, multiprocessors);
  if (recipe.most_parts > 0) return waves_and_parts(recipe, tiles, resident, wanted);
  const std::int64_t partitions = std::clamp<std::int64_t>(wanted > 0 ? wanted : resident, 1, steps);

  const std::int64_t longest_whole = ceil_div(tiles, std::min(partitions, tiles)) * recipe.steps_per_tile;
  const std::int64_t longest_cut = ceil_div(steps, partitions) + recipe.fix_up_steps;
  // A number that was asked for is kept, so whole tiles serve it only where there is one for each.
  const bool whole = longest_whole <= longest_cut && (wanted <= 0 || partitions <= tiles);
  const std::int64_t grains = whole ? tiles : steps;
  const std::int64_t used = std::min(partitions, grains);
  const int idle = recipe.idle_blocks ? std::max(0, multiprocessors - static_cast<int>(used)) : 0;
  return Partition{.partitions = static_cast<int>(used),
                   .steps_per_grain = whole ? recipe.steps_per_tile : 1,
                   .grains_per_partition = static_cast<int>(grains / used),
                   .extra_grains = static_cast<int>(grains % used),
                   .sharing = static_cast<int>(used),
                   .idle = idle};
}

}  // namespace lutsmith
