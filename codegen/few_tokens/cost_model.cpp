#include <algorithm>
#include <cmath>

#include "codegen/few_tokens/few_tokens.h"
#include "templates/abi/packed_layout.h"
#include "templates/few_tokens/shared_memory.h"
#include "templates/look_up/pair_table_bytes.h"

namespace lutsmith {
namespace {

using namespace few_tokens;

/// How a launch lies on the GPU. The next launch waits for this one to end, but its blocks take room that is
/// left: where all of them find it, their prologues are hidden, but two of them may share a multiprocessor
/// while others have none, unless launches fill the room without a rest.
struct Residency {
  int needed;    ///< blocks of one launch for each multiprocessor
  int together;  ///< those of them that are resident at a time
  int waves;
  bool hidden;  ///< the next launch is resident beside this one
  bool uneven;  ///< a multiprocessor may get one block more than `needed`
};

Residency residency_of(const KernelSpec& spec, const FewTokensSchedule& schedule, int multiprocessors,
                       int partitions) {
  Residency result{};
  result.needed = (partitions + multiprocessors - 1) / multiprocessors;
  result.together = std::min(result.needed, schedule.blocks_per_multiprocessor);
  result.waves = (result.needed + result.together - 1) / result.together;
  if (!schedule.dependent_launch) return result;
  const int room = resident_blocks(spec, schedule);
  result.hidden = 2 * partitions <= room * multiprocessors;
  result.uneven = room > result.needed && room * multiprocessors % partitions != 0;
  return result;
}

/// The larger of two times that cannot hide behind each other wholly.
double about_the_larger(double a, double b) { return std::pow(std::pow(a, 4) + std::pow(b, 4), 0.25); }

/// What one step of a launch costs its multiprocessors.
class StepCost {
 public:
  StepCost(const KernelSpec& spec, const FewTokensSchedule& schedule, const MeasuredCosts& costs,
           const LaunchRecipe& recipe)
      : schedule_(schedule), costs_(costs), ring_(schedule.weights != WeightPath::registers) {
    const int octets = token_octets(schedule);
    // Those of short tiles stay in registers, as long as the next tile has the same tokens.
    const bool loaded_again = recipe.steps_per_tile > 2 || spec.m > schedule.tile_tokens;
    const int octets_loaded = loaded_again ? octets : 0;
    const double record = costs.record + (ring_ ? costs.ring * (octets - 1) : 0);
    const bool ragged = packed_layout(spec.format).column_panels() % schedule.warps != 0;
    unit_ =
        (records(schedule) * record + costs.activations * octets_loaded) * (1 + (ragged ? costs.ragged : 0));
    latency_ = costs.latency + costs.activations_latency * octets_loaded;
    if (early_refill()) latency_ += costs.third_stage_latency;
  }

  /// Units of weights that a warp holds when it starts.
  int stages() const { return ring_ ? schedule_.stages : 2; }

  /// Microseconds, with so many blocks side by side, in a partition of so many steps. The slower of three:
  /// what all warps issue; the latency of a step; the way of a refill, which is asked for at the end of a
  /// step (with three stages in registers before its start) and awaited when its stage is due again.
  double microseconds(double blocks, int steps) const {
    const double issue = schedule_.warps * blocks * unit_ / costs_.cycles_per_microsecond;
    const double latency = latency_ / costs_.cycles_per_microsecond;
    const double use = std::cbrt(issue * issue * issue + latency * latency * latency);
    const double refilled = std::max(steps - stages(), 0) / static_cast<double>(steps);
    const double refill =
        early_refill() ? costs_.memory_latency / 2 : (use + costs_.memory_latency) / stages();
    return about_the_larger(use, refill * refilled);
  }

 private:
  bool early_refill() const { return !ring_ && schedule_.stages == 3; }

  const FewTokensSchedule& schedule_;
  const MeasuredCosts& costs_;
  bool ring_;
  double unit_ = 0;     // cycles
  double latency_ = 0;  // cycles
};

/// Microseconds at the end of the tiles of a partition, of which it has `segments`.
double epilogue(const FewTokensSchedule& schedule, const MeasuredCosts& costs, int segments, int together,
                bool whole) {
  const int elements = schedule.tile_rows * schedule.tile_tokens;
  const int threads = schedule.warps * layout::kLanes;
  const int passes = (elements + threads - 1) / threads * schedule.warps;
  const double reduction = segments * (costs.segment + costs.reduction * passes +
                                       costs.partial * elements * schedule.warps * together);
  return reduction + (whole ? 0 : costs.fix_up + costs.fix_up_per_element * elements);
}

}  // namespace

/// Microseconds of one launch in a row of such launches. Most partitions have as many steps as the shortest,
/// and some a grain more: while the first are at work all share the memory, after that the rest have it
/// for themselves. Good for an order, not for a promise. docs/tuning.md says where the target's costs come
/// from, and how far the first choice is from the best.
double FewTokens::estimated_microseconds(const KernelSpec& spec, const FewTokensSchedule& schedule,
                                         const GpuModel& gpu, int partitions) {
  const MeasuredCosts& costs = gpu.costs;
  const LaunchRecipe recipe = launch_recipe(spec, schedule);
  const Result<Partition> cut = partition(recipe, spec.m, gpu.multiprocessors, partitions);
  if (!cut) return HUGE_VAL;
  const Residency residency = residency_of(spec, schedule, gpu.multiprocessors, cut->partitions);

  const int shortest = cut->grains_per_partition * cut->steps_per_grain;
  const int rest = cut->extra_grains > 0 ? cut->steps_per_grain : 0;
  const int steps = shortest + rest;
  const StepCost step_cost(spec, schedule, costs, recipe);
  const double side_by_side =
      (residency.needed + (residency.uneven ? costs.uneven_block : 0)) / residency.waves;
  const double step = step_cost.microseconds(side_by_side, steps) * residency.waves;

  // Memory's share of a step, were all partitions at it, and of what all stages hold at the start.
  const double unit =
      shared_memory::stage_bytes(packed_layout(spec.format), schedule.tile_rows) * 1e6 / gpu.bytes_per_second;
  const double memory_step = schedule.warps * unit * cut->partitions * costs.memory;
  const double stages = std::min(steps, step_cost.stages()) * schedule.warps * unit * residency.together;
  const double primed = stages * gpu.multiprocessors;
  const double full = static_cast<double>(cut->partitions) / (residency.needed * gpu.multiprocessors);
  const double memory = std::max(shortest * memory_step - costs.overlap * primed * full, 0.0);
  const double extra = static_cast<double>(cut->extra_grains) / cut->partitions;
  const double main =
      about_the_larger(shortest * step, memory) + rest * about_the_larger(step, memory_step * extra);

  const int segments = (steps + recipe.steps_per_tile - 1) / recipe.steps_per_tile;
  const bool whole = cut->steps_per_grain == recipe.steps_per_tile;
  const double ends = residency.waves * epilogue(schedule, costs, segments, residency.together, whole);

  double start = costs.priming * primed;
  if (!residency.hidden) {
    constexpr double kTableBytes = 64 << 10;
    start += costs.prologue + costs.look_up_fill * residency.together *
                                  pair_table::shared_bytes(spec.format.bits) / kTableBytes;
  }
  if (residency.uneven) start += costs.uneven_launch;
  if (schedule.weights != WeightPath::registers) start += costs.ring_start;
  return start + main + ends;
}

}  // namespace lutsmith
