#include <algorithm>
#include <cmath>

#include "codegen/many_tokens/many_tokens.h"
#include "templates/abi/packed_layout.h"

namespace lutsmith {
namespace {

using namespace many_tokens;

// What an H100 was seen to need, fitted to 664 kernels of six layers and 32 to 1024 tokens (docs/tuning.md);
// no other GPU has this family.

constexpr double kCyclesPerMicrosecond = 1982;
constexpr double kMultipliesPerCycle = 2048;
/// A record of 16 rows and 128 k, from codes to A registers.
constexpr double kRecordCycles = 72.6;
constexpr double kStart = 0.98;              // microseconds: from one launch to the next,
constexpr double kSegment = 0.51;            // to begin a tile, to end it and to write it,
constexpr double kFixUp = 1.66;              // to hand a part of a cut tile over,
constexpr double kFixUpPerElement = 4.4e-5;  // and to add the parts, per element and part

/// Cycles of a unit. Look-ups and products hinder each other: they hardly overlap, and with two warpgroups,
/// which leave more of the latencies open, they take longer than one after another.
double unit_cycles(const ManyTokensSchedule& schedule) {
  const double looking_up = static_cast<double>(schedule.tile_rows) / layout::kRecordRows * kRecordCycles;
  const double multiplying =
      schedule.tile_rows * schedule.tile_tokens * layout::kRecordColumns / kMultipliesPerCycle;
  const double hindrance = warpgroups(schedule) == kMostWarpgroups ? 1.14 : 1.48;
  return std::max(looking_up, multiplying) + hindrance * std::min(looking_up, multiplying);
}

}  // namespace

/// Microseconds of one launch: the slower of memory and of the block with the most units. Good for an order,
/// not for a promise.
double ManyTokens::estimated_microseconds(const KernelSpec& spec, const ManyTokensSchedule& schedule,
                                          const GpuModel& gpu, int partitions) {
  const LaunchRecipe recipe = launch_recipe(spec, schedule);
  const Result<Partition> cut = partition(recipe, spec.m, gpu.multiprocessors, partitions);
  if (!cut) return HUGE_VAL;
  const int shared = cut->grains_per_partition + (cut->extra_grains > 0 ? 1 : 0);
  const int units = shared * cut->steps_per_grain + cut->whole_tiles * recipe.steps_per_tile;
  const int waves = (cut->partitions + gpu.multiprocessors - 1) / gpu.multiprocessors;
  const double issue = waves * units * unit_cycles(schedule) / kCyclesPerMicrosecond;
  const double memory =
      static_cast<double>(packed_layout(spec.format).packed_bytes()) / gpu.bytes_per_second * 1e6;

  const bool is_cut = cut->sharing > 0 && cut->steps_per_grain < recipe.steps_per_tile;
  const int rest = (cut->sharing * cut->grains_per_partition + cut->extra_grains) * cut->steps_per_grain /
                   recipe.steps_per_tile;  // tiles
  const double parts = is_cut ? static_cast<double>(cut->sharing) / rest : 0;
  const bool straddles =
      is_cut && cut->sharing % rest != 0;  // a range that is no equal part of a tile has two
  const double segments = waves * (cut->whole_tiles + (straddles ? 2 : shared > 0 ? 1 : 0));
  const double elements = schedule.tile_rows * schedule.tile_tokens;
  const double fix_up = is_cut ? (straddles ? 2 : 1) * (kFixUp + kFixUpPerElement * parts * elements) : 0;
  return kStart + std::max(memory, issue) + segments * kSegment + fix_up;
}

}  // namespace lutsmith
