#include <algorithm>

#include "codegen/many_tokens/many_tokens.h"

namespace lutsmith {
namespace {

using namespace many_tokens;

/// Tiles as they were measured to be worth trying, with the stages that fit beside a table of 4 bits. (128 x
/// 128 with one group along K is for groups of 32, whose weights leave too little space for X of two.)
constexpr ManyTokensSchedule kTiles[] = {
    {.tile_rows = 128,
     .tile_tokens = 32,
     .k_groups = 2,
     .commit_steps = 4,
     .activation_stages = 8,
     .weight_stages = 12},
    {.tile_rows = 256,
     .tile_tokens = 32,
     .k_groups = 1,
     .commit_steps = 2,
     .activation_stages = 8,
     .weight_stages = 6},
    {.tile_rows = 256,
     .tile_tokens = 48,
     .k_groups = 1,
     .commit_steps = 2,
     .activation_stages = 6,
     .weight_stages = 5},
    {.tile_rows = 128,
     .tile_tokens = 64,
     .k_groups = 2,
     .commit_steps = 2,
     .activation_stages = 8,
     .weight_stages = 8},
    {.tile_rows = 256,
     .tile_tokens = 64,
     .k_groups = 1,
     .commit_steps = 2,
     .activation_stages = 6,
     .weight_stages = 5},
    {.tile_rows = 128,
     .tile_tokens = 96,
     .k_groups = 2,
     .commit_steps = 2,
     .activation_stages = 8,
     .weight_stages = 6},
    {.tile_rows = 256,
     .tile_tokens = 96,
     .k_groups = 1,
     .commit_steps = 2,
     .activation_stages = 4,
     .weight_stages = 4},
    {.tile_rows = 128,
     .tile_tokens = 128,
     .k_groups = 1,
     .commit_steps = 4,
     .activation_stages = 4,
     .weight_stages = 6},
    {.tile_rows = 128,
     .tile_tokens = 128,
     .k_groups = 2,
     .commit_steps = 1,
     .activation_stages = 8,
     .weight_stages = 4},
    {.tile_rows = 256,
     .tile_tokens = 128,
     .k_groups = 1,
     .commit_steps = 1,
     .activation_stages = 4,
     .weight_stages = 4},
    {.tile_rows = 128,
     .tile_tokens = 192,
     .k_groups = 1,
     .commit_steps = 2,
     .activation_stages = 4,
     .weight_stages = 4},
    {.tile_rows = 128,
     .tile_tokens = 256,
     .k_groups = 1,
     .commit_steps = 2,
     .activation_stages = 4,
     .weight_stages = 3},
};

/// With scales in short groups a unit is longer, and fewer of them fit.
ManyTokensSchedule fitted(const KernelSpec& spec, ManyTokensSchedule schedule) {
  const int most = spec.target.traits().shared_bytes_per_block;
  while (shared_memory(spec, schedule).bytes() > most && schedule.weight_stages > 2 * schedule.k_groups) {
    schedule.weight_stages -= schedule.k_groups;
  }
  return schedule;
}

}  // namespace

std::vector<ManyTokensSchedule> ManyTokens::candidates(const KernelSpec& spec) {
  constexpr int kFewest = 9;      // tokens; those for few tokens are faster below
  constexpr int kNarrowest = 17;  // tokens for which the narrowest tile is not too wide
  std::vector<ManyTokensSchedule> candidates;
  if (spec.m < kFewest || !spec.target.traits().warpgroup_products) return candidates;
  for (const ManyTokensSchedule& tile : kTiles) {
    // Twice as many tokens as there are would be multiplied for nothing.
    if (tile.tile_tokens >= 2 * std::max<std::int64_t>(spec.m, kNarrowest)) continue;
    ManyTokensSchedule one_order = tile;
    // Two groups add up in another order than one, and not every tile can have two.
    if (spec.batch_invariant) one_order.k_groups = 1;
    const ManyTokensSchedule schedule = fitted(spec, one_order);
    if (validate(spec, schedule) && estimated_registers(spec, schedule) <= register_limit(schedule)) {
      candidates.push_back(schedule);
    }
  }
  return candidates;
}

}  // namespace lutsmith
