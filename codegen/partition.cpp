#include <fmt/format.h>

#include <algorithm>

#include "lutsmith/codegen.h"

namespace lutsmith {
namespace {

std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

// What the partial sums of a cut tile cost, as the work of so many warps on 16 rows x 128 k: their way to
// L2 and back is about 2.4 microseconds on an H200, in which that many are done.
constexpr int kFixUpUnits = 120;

std::int64_t fix_up_steps(const LaunchRecipe& recipe) {
  const int units_per_step = recipe.threads / 32 * (recipe.tile_rows / 16);
  return ceil_div(kFixUpUnits, units_per_step);
}

}  // namespace

Result<Partition> partition(const LaunchRecipe& recipe, std::int64_t m, int multiprocessors, int wanted) {
  if (m < 1) {
    return std::unexpected(
        Error{ErrorCode::invalid_argument, fmt::format("m: {} is not allowed; allowed: 1 or more", m), {}});
  }
  // The kernel counts steps in 32 bits, with room for those of one tile more.
  constexpr std::int64_t kMostSteps = std::int64_t{1} << 30;
  const std::int64_t token_tiles = ceil_div(std::min(m, std::int64_t{1} << 40), recipe.tile_tokens);
  if (token_tiles > kMostSteps / recipe.row_tiles / recipe.steps_per_tile) {
    return std::unexpected(Error{ErrorCode::invalid_argument,
                                 fmt::format("m: {} tokens make more steps of work than one launch can count "
                                             "({}); split the tokens over several launches",
                                             m, kMostSteps),
                                 {}});
  }
  const std::int64_t tiles = recipe.row_tiles * token_tiles;
  const std::int64_t steps = tiles * recipe.steps_per_tile;
  const std::int64_t resident = std::int64_t{multiprocessors} * recipe.blocks_per_multiprocessor;
  const std::int64_t partitions = std::clamp<std::int64_t>(wanted > 0 ? wanted : resident, 1, steps);

  const std::int64_t longest_whole = ceil_div(tiles, std::min(partitions, tiles)) * recipe.steps_per_tile;
  const std::int64_t longest_cut = ceil_div(steps, partitions) + fix_up_steps(recipe);
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
