#include <algorithm>
#include <cmath>

#include "codegen/few_tokens/few_tokens.h"
#include "codegen/row_tables.h"
#include "templates/abi/packed_layout.h"
#include "templates/few_tokens/shared_memory.h"

namespace lutsmith {
namespace {

using namespace few_tokens;

/// How the blocks of a launch lie on the GPU.
struct Residency {
  int needed;    ///< blocks for each multiprocessor
  int together;  ///< those of them that are resident at a time
  int waves;
  /// A multiprocessor may get more than it needs. The next launch waits for this one to end, but its blocks
  /// take room that is left, so two of them may share a multiprocessor while others have none, unless
  /// launches fill the room without a rest.
  bool uneven;
  /// Blocks of the next launch find room beside all of these.
  bool two_launches;
};

Residency residency_of(const KernelSpec& spec, const FewTokensSchedule& schedule, int multiprocessors,
                       int partitions) {
  Residency result{};
  result.needed = (partitions + multiprocessors - 1) / multiprocessors;
  result.together = std::min(result.needed, schedule.blocks_per_multiprocessor);
  result.waves = (result.needed + result.together - 1) / result.together;
  const int room = resident_blocks(spec, schedule);
  const int launched = schedule.dependent_launch ? std::max(partitions, multiprocessors) : partitions;
  result.uneven = schedule.dependent_launch && room > result.needed && room * multiprocessors % launched != 0;
  result.two_launches = schedule.dependent_launch && room >= 2 * result.needed;
  return result;
}

/// Two times of which the shorter hides behind the longer, but for a little: so of schedules that all wait
/// for the memory, the one with time to spare is ranked first.
double side_by_side(double a, double b) {
  constexpr double kNotHidden = 0.05;
  return std::max(a, b) + kNotHidden * std::min(a, b);
}

/// Of what a record costs, an octet's sums of X: eight products of the thirty-odd instructions of a record.
/// Guessed; no kernel with offsets was measured yet.
constexpr double kSumsOfRecord = 0.1;

/// Cycles that a record takes, most of them for its look-ups.
double look_up_cycles(const WeightFormat& format, const MeasuredCosts& costs) {
  constexpr double kSchedulers = 4;
  if (!format.row_tables()) return costs.record;
  return layout::kMmaPerRecord * row_look_up_instructions(format.bits) * kCyclesOfPermutation / kSchedulers;
}

/// Microseconds of one step of all blocks that a multiprocessor has at a time: what their warps issue, and
/// how long a step of one takes, were it alone. The longer of the two hides the other, but not wholly.
double step_microseconds(const KernelSpec& spec, const FewTokensSchedule& schedule,
                         const MeasuredCosts& costs, int steps_per_tile, double blocks) {
  const bool in_registers = schedule.weights == WeightPath::registers;
  const int octets = token_octets(schedule);
  // Activations of short tiles stay in registers, as long as the next tile has the same tokens.
  const bool loaded_again = steps_per_tile > 2 || spec.m > schedule.tile_tokens;
  const int octets_loaded = loaded_again ? octets : 0;
  const bool ragged = packed_layout(spec.format).column_panels() % schedule.warps != 0;
  const int missing = std::max(0, wanted_registers(spec, schedule) - FewTokens::register_limit(schedule));

  const double record = look_up_cycles(spec.format, costs) + (in_registers ? 0 : costs.ring * (octets - 1));
  // The sums of X that offsets are multiplied by: products as of another record, but without its look-ups.
  const double sums =
      spec.format.offsets && schedule.tile_tokens > 1 ? kSumsOfRecord * costs.record * octets : 0;
  const double unit = (records(schedule) * record + sums + costs.activations * octets_loaded) *
                      (1 + (ragged ? costs.ragged : 0)) *
                      (1 + costs.missing_register * missing / records(schedule));
  double latency = costs.latency + costs.activations_latency * octets_loaded;
  if (in_registers && schedule.stages == 3) latency += costs.third_stage_latency;
  if (in_registers && schedule.stages == 2 && ragged) latency *= 1 + costs.ragged_refill;
  const double issued = schedule.warps * blocks * unit;
  return std::cbrt(issued * issued * issued + latency * latency * latency) / costs.cycles_per_microsecond;
}

/// Microseconds until a column panel of X has come for four octets of tokens, which nothing hides: H100, K of
/// 512 to 1024.
constexpr double kColumnOfFourOctets = 0.13;

/// Microseconds at the end of a tile: the sums of a block's warps become one.
double tile_end(const FewTokensSchedule& schedule, const MeasuredCosts& costs) {
  const int elements = schedule.tile_rows * schedule.tile_tokens;
  const int threads = schedule.warps * layout::kLanes;
  const int passes = (elements + threads - 1) / threads * schedule.warps;
  return costs.segment + costs.reduction * passes;
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
  const bool ring = schedule.weights != WeightPath::registers;
  const auto columns = static_cast<double>(packed_layout(spec.format).column_panels());

  const int shortest = cut->grains_per_partition * cut->steps_per_grain;
  const int rest = cut->extra_grains > 0 ? cut->steps_per_grain : 0;
  const int steps = shortest + rest;
  const double blocks = static_cast<double>(residency.needed) / residency.waves;  // at a time
  const double step =
      residency.waves * step_microseconds(spec, schedule, costs, recipe.steps_per_tile, blocks);

  // Of a step's weights, were all partitions at it, and of those that blocks ask for when they start: with
  // dependent launches that is before the launch before has ended.
  const double unit =
      shared_memory::stage_bytes(packed_layout(spec.format), schedule.tile_rows) * 1e6 / gpu.bytes_per_second;
  const double memory_step = schedule.warps * unit * cut->partitions;
  const int first_steps = std::min(steps, ring ? schedule.stages : 2);
  const double first = first_steps * schedule.warps * unit * residency.together;
  const double early = schedule.dependent_launch ? first * cut->partitions / residency.needed : 0;
  const double memory = std::max(shortest * memory_step - early, 0.0);
  const double extra = static_cast<double>(cut->extra_grains) / cut->partitions;
  const double main = side_by_side(shortest * step, memory) + rest * side_by_side(step, memory_step * extra);

  const int segments = (steps + recipe.steps_per_tile - 1) / recipe.steps_per_tile;
  const bool whole = cut->steps_per_grain == recipe.steps_per_tile;
  const double ends = residency.waves * (segments * tile_end(schedule, costs) + (whole ? 0 : costs.fix_up));
  // Where a ring holds all that its block has, and two launches share the GPU, that has come before the
  // launch ahead ends.
  const bool comes_before = ring && steps <= schedule.stages && residency.two_launches;
  const double coming =
      comes_before ? 0 : costs.priming * first * gpu.multiprocessors + (ring ? costs.ring_start : 0);
  const double start = costs.block * cut->partitions + coming + (residency.uneven ? costs.uneven_launch : 0) +
                       (token_octets(schedule) == 4 ? kColumnOfFourOctets * columns : 0);
  return start + main + ends;
}

}  // namespace lutsmith
