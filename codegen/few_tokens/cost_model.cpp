#include <algorithm>
#include <bit>
#include <cmath>

#include "codegen/few_tokens/few_tokens.h"
#include "templates/abi/packed_layout.h"
#include "templates/few_tokens/shared_memory.h"

namespace lutsmith {
namespace {

using namespace few_tokens;

/// Cycles in which one unit issues, counted over a warp: fixed bookkeeping, look-ups and mma of each record,
/// and activations where they are loaded again for every unit.
double unit_cycles(const KernelSpec& spec, const FewTokensSchedule& schedule, const MeasuredCosts& costs,
                   int steps_per_tile) {
  const int octets = token_octets(schedule);
  // A number of bits is put together from slices of 4, 2 and 1.
  const int slices = std::popcount(static_cast<unsigned>(spec.format.bits));
  double record = costs.record + costs.octet * octets + costs.slice * (slices - 1);
  record += schedule.weights != WeightPath::registers ? costs.ring : costs.register_slice * (slices - 1);
  // Those of short tiles stay in registers, as long as the next tile has the same tokens.
  const bool loaded_again = steps_per_tile > 2 || spec.m > schedule.tile_tokens;
  return costs.unit + records(schedule) * record + (loaded_again ? costs.activations * octets : 0);
}

}  // namespace

/// Microseconds of one launch: the slower of memory and instruction issue on the multiprocessor with the
/// most work, and what stands around them. Good for an order, not for a promise. docs/tuning.md says where
/// the target's costs come from, and how far the first choice is from the best.
double FewTokens::estimated_microseconds(const KernelSpec& spec, const FewTokensSchedule& schedule,
                                         const GpuModel& gpu, int partitions) {
  const MeasuredCosts& costs = gpu.costs;
  const LaunchRecipe recipe = launch_recipe(spec, schedule);
  const Result<Partition> cut = partition(recipe, spec.m, gpu.multiprocessors, partitions);
  if (!cut) return HUGE_VAL;

  const int blocks = (cut->partitions + gpu.multiprocessors - 1) / gpu.multiprocessors;
  const int steps = (cut->grains_per_partition + (cut->extra_grains > 0 ? 1 : 0)) * cut->steps_per_grain;
  const int resident = std::min(blocks, schedule.blocks_per_multiprocessor);
  const int waves = (blocks + resident - 1) / resident;
  const double warps = schedule.warps * resident;        // of one multiprocessor at a time
  const double units = steps * schedule.warps * blocks;  // a ragged last step takes as long as a whole one

  const double unit_bytes = shared_memory::stage_bytes(packed_layout(spec.format), schedule.tile_rows);
  const double memory = units * unit_bytes / (gpu.bytes_per_second / gpu.multiprocessors) * 1e6;
  constexpr double kSchedulers = 4;
  const double hiding = (warps + costs.hiding) / warps;  // few warps leave cycles without an issue
  double issue = units * unit_cycles(spec, schedule, costs, recipe.steps_per_tile) / kSchedulers * hiding /
                 costs.cycles_per_microsecond;
  // A deeper ring than two stages only moves work to the start.
  if (schedule.weights != WeightPath::registers) issue *= 1 + costs.ring_stage * (schedule.stages - 2);

  const double tile_elements = schedule.tile_rows * schedule.tile_tokens;
  const double segments = std::ceil(static_cast<double>(steps) / recipe.steps_per_tile);
  const double reduction =
      segments * (costs.segment + costs.reduction_per_element * tile_elements / schedule.warps +
                  costs.partial * tile_elements * warps);
  const bool whole = cut->steps_per_grain == recipe.steps_per_tile;
  const double fix_up = whole ? 0 : costs.fix_up + costs.fix_up_per_element * tile_elements;
  return costs.launch + costs.warp * warps + std::max(memory, issue) +
         waves * (costs.step * steps + reduction + fix_up);
}

}  // namespace lutsmith
