#include <algorithm>

#include "codegen/many_tokens/many_tokens.h"

namespace lutsmith {
namespace {

using namespace many_tokens;

constexpr ManyTokensSchedule tile(int rows, int tokens, int k_groups, int cluster_blocks, int commit_steps,
                                  int activation_stages, int weight_stages) {
  return {.tile_rows = rows,
          .tile_tokens = tokens,
          .k_groups = k_groups,
          .cluster_blocks = cluster_blocks,
          .commit_steps = commit_steps,
          .activation_stages = activation_stages,
          .weight_stages = weight_stages};
}

/// Tiles as they were measured to be worth trying, with the stages that fit beside a table of 4 bits. (128 x
/// 128 with one group along K is for groups of 32, whose weights leave too little space for X of two.)
constexpr ManyTokensSchedule kTiles[] = {
    // rows, tokens, groups along K, blocks, steps, stages of X, stages of weights
    tile(128, 32, 2, 1, 4, 8, 12), tile(128, 32, 2, 2, 1, 8, 12), tile(192, 32, 1, 2, 4, 8, 8),
    tile(256, 32, 1, 1, 4, 8, 6),  tile(256, 48, 1, 1, 4, 6, 5),  tile(128, 64, 2, 1, 4, 8, 8),
    tile(128, 64, 2, 2, 4, 8, 8),  tile(192, 64, 1, 2, 4, 6, 6),  tile(256, 64, 1, 1, 4, 6, 5),
    tile(128, 96, 2, 1, 1, 8, 6),  tile(128, 96, 2, 2, 1, 8, 6),  tile(192, 96, 1, 2, 1, 6, 5),
    tile(256, 96, 1, 1, 1, 4, 4),  tile(128, 128, 1, 1, 1, 4, 6), tile(128, 128, 1, 2, 1, 4, 6),
    tile(128, 128, 2, 1, 1, 8, 4), tile(128, 128, 2, 2, 1, 8, 4), tile(192, 128, 1, 1, 1, 4, 6),
    tile(192, 128, 1, 2, 1, 4, 6), tile(256, 128, 1, 1, 1, 4, 4), tile(128, 192, 1, 1, 1, 4, 4),
    tile(128, 192, 1, 2, 1, 4, 4), tile(192, 192, 1, 1, 1, 4, 4), tile(192, 192, 1, 2, 1, 4, 4),
    tile(128, 256, 1, 1, 1, 4, 3), tile(128, 256, 1, 2, 1, 4, 3), tile(128, 160, 1, 1, 1, 4, 6),
    tile(128, 160, 1, 2, 1, 4, 6),
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
    // One order of adding for all: neither two groups nor two blocks.
    if (spec.batch_invariant && tile.cluster_blocks > 1) continue;
    ManyTokensSchedule one_order = tile;
    if (spec.batch_invariant) one_order.k_groups = 1;
    const ManyTokensSchedule schedule = fitted(spec, one_order);
    if (validate(spec, schedule) && estimated_registers(spec, schedule) <= register_limit(schedule)) {
      candidates.push_back(schedule);
    }
  }
  return candidates;
}

}  // namespace lutsmith
