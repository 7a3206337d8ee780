#include <utility>

#include "codegen/few_tokens/few_tokens.h"
#include "templates/abi/packed_layout.h"

namespace lutsmith {
namespace {

using namespace few_tokens;

/// Activations of 32 tokens are worth their registers where they stay there for the whole launch: a short K,
/// and warps enough for two steps. With more of it, two tiles of 16 tokens are no slower.
int tokens_for(std::int64_t m, std::int64_t columns) {
  constexpr std::int64_t kMostResidentColumns = 8;  // column panels
  if (m > 16 && columns <= kMostResidentColumns) return 32;
  return m == 1 ? 1 : m <= 8 ? 8 : 16;
}

bool fits(const KernelSpec& spec, const FewTokensSchedule& schedule) {
  const TargetTraits& traits = spec.target.traits();
  // Every resident block costs 1 KiB of shared memory on its own.
  const int shared = (shared_bytes(spec, schedule) + 1024) * schedule.blocks_per_multiprocessor;
  const bool resident = FewTokens::launch_recipe(spec, schedule).steps_per_tile <= 2;
  return FewTokens::validate(spec, schedule).has_value() && (schedule.tile_tokens <= 16 || resident) &&
         shared <= traits.shared_bytes_per_multiprocessor &&
         FewTokens::estimated_registers(spec, schedule) <= FewTokens::register_limit(schedule);
}

/// Wide tiles, which halve the loads of X, only where X is loaded for every tile; and where they were
/// measured: no GPU without bulk copies.
bool is_worth_trying(const KernelSpec& spec, const FewTokensSchedule& schedule) {
  if (schedule.tile_rows != kWideTileRows) return true;
  constexpr std::int64_t kMostResidentColumns = 2 * kMostWarps;
  return schedule.tile_tokens > 1 && spec.target.traits().bulk_copy &&
         packed_layout(spec.format).column_panels() > kMostResidentColumns;
}

}  // namespace

std::vector<FewTokensSchedule> FewTokens::candidates(const KernelSpec& spec) {
  const TargetTraits& traits = spec.target.traits();
  const WeightPath ring = traits.bulk_copy ? WeightPath::bulk_copy : WeightPath::async_copy;
  const std::pair<WeightPath, int> paths[] = {
      {WeightPath::registers, 2}, {WeightPath::registers, 3}, {ring, 2}, {ring, 3}, {ring, 4}, {ring, 6}};
  const std::int64_t columns = packed_layout(spec.format).column_panels();
  std::vector<FewTokensSchedule> candidates;
  for (int warps = 1; warps <= kMostWarps; ++warps) {
    // A number of warps is worth trying where it is usual, or leaves none idle in the last step.
    if (warps != 4 && warps != 8 && warps != 16 && columns % warps != 0) continue;
    for (const int tile_rows : kTileRows) {
      for (const auto& [path, stages] : paths) {
        for (const int blocks : {1, 2}) {
          const FewTokensSchedule schedule{.tile_rows = tile_rows,
                                           .tile_tokens = tokens_for(spec.m, columns),
                                           .warps = warps,
                                           .weights = path,
                                           .stages = stages,
                                           .blocks_per_multiprocessor = blocks,
                                           .dependent_launch = traits.dependent_launch};
          if (is_worth_trying(spec, schedule) && fits(spec, schedule)) candidates.push_back(schedule);
        }
      }
    }
  }
  return candidates;
}

}  // namespace lutsmith
