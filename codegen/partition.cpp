#include <fmt/format.h>

#include <algorithm>

#include "core/result.h"
#include "lutsmith/codegen.h"

namespace lutsmith {
namespace {

std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

}  // namespace

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
  const std::int64_t resident = std::int64_t{multiprocessors} * recipe.blocks_per_multiprocessor;
  const std::int64_t partitions = std::clamp<std::int64_t>(wanted > 0 ? wanted : resident, 1, steps);

  const std::int64_t longest_whole = ceil_div(tiles, std::min(partitions, tiles)) * recipe.steps_per_tile;
  const std::int64_t longest_cut = ceil_div(steps, partitions) + recipe.fix_up_steps;
  // A number that was asked for is kept, so whole tiles serve it only where there is one for each.
  const bool whole = longest_whole <= longest_cut && (wanted <= 0 || partitions <= tiles);
  const std::int64_t grains = whole ? tiles : steps;
  const std::int64_t used = std::min(partitions, grains);
  return Partition{.partitions = static_cast<int>(used),
                   .steps_per_grain = whole ? recipe.steps_per_tile : 1,
                   .grains_per_partition = static_cast<int>(grains / used),
                   .extra_grains = static_cast<int>(grains % used)};
}

}  // namespace lutsmith
