#include <algorithm>
#include <cmath>

#include "codegen/few_tokens/few_tokens.h"
#include "templates/abi/packed_layout.h"
#include "templates/few_tokens/shared_memory.h"

namespace lutsmith {
namespace {

using namespace few_tokens;

/// Issue cycles of one unit, counted over a warp: fixed bookkeeping, look-ups and mma of each record,
/// and activations where they are loaded again for every unit.
double unit_instructions(const FewTokensSchedule& schedule, int steps_per_tile) {
  const double mma = 57 + 24 * token_octets(schedule) + (schedule.weights == WeightPath::registers ? 0 : 2.5);
  const double activations = steps_per_tile > 2 ? 42 * token_octets(schedule) : 0;
  return 108 + records(schedule) * mma + activations;
}

}  // namespace

/// Microseconds of one launch: the slower of memory and instruction issue on the multiprocessor with the
/// most work, and what stands around them. The numbers, here and in the target's costs, were fitted to 3,974
/// launches measured on an H200 (39 products, every candidate each); there the first choice is 2.4 % from the
/// best in the mean. Good for an order, not for a promise.
double FewTokens::estimated_microseconds(const KernelSpec& spec, const FewTokensSchedule& schedule,
                                         const GpuModel& gpu, int partitions) {
  const MeasuredCosts& costs = gpu.costs;
  const LaunchRecipe recipe = launch_recipe(spec, schedule);
  const Result<Partition> cut = partition(recipe, spec.m, gpu.multiprocessors, partitions);
  if (!cut) return HUGE_VAL;

  const int blocks = (cut->partitions + gpu.multiprocessors - 1) / gpu.multiprocessors;
  const int steps = (cut->grains_per_partition + (cut->extra_grains > 0 ? 1 : 0)) * cut->steps_per_grain;
  const double warps = schedule.warps * blocks;  // of one multiprocessor
  const double units = steps * warps;            // a ragged last step takes as long as a whole one

  const double unit_bytes = shared_memory::stage_bytes(packed_layout(spec.format), schedule.tile_rows);
  const double memory = units * unit_bytes / (gpu.bytes_per_second / gpu.multiprocessors) * 1e6;
  constexpr double kSchedulers = 4;
  const double hiding = (warps + 9) / warps;  // few warps leave cycles without an issue
  double issue = units * unit_instructions(schedule, recipe.steps_per_tile) / kSchedulers * hiding /
                 costs.cycles_per_microsecond;
  // A deeper ring than two stages only moves work to the start.
  if (schedule.weights != WeightPath::registers) issue *= 1 + 0.007 * (schedule.stages - 2);

  const double tile_elements = schedule.tile_rows * schedule.tile_tokens;
  const double segments = std::ceil(static_cast<double>(steps) / recipe.steps_per_tile);
  const double reduction = segments * costs.reduction_per_element * tile_elements / schedule.warps;
  const bool whole = cut->steps_per_grain == recipe.steps_per_tile;
  const double fix_up = whole ? 0 : costs.fix_up + costs.fix_up_per_element * tile_elements;
  return std::max(memory, issue) + costs.step * steps + reduction + fix_up;
}

}  // namespace lutsmith
