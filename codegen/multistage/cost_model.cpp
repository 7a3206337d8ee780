#include <algorithm>
#include <cmath>

#include "codegen/multistage/multistage.h"
#include "codegen/row_tables.h"
#include "templates/abi/packed_layout.h"

namespace lutsmith {
namespace {

using namespace multistage;

// Products, wavefronts and instructions are counted (docs/kernels.md has the counting). The look-ups, what is
// not hidden, and segments were fitted to 60 times of an H100 (docs/tuning.md).

constexpr double kCyclesPerMicrosecond = 1700;
constexpr double kSchedulers = 4;
/// Issue slots that look-ups of a record for one mma take: the code has some ten instructions for them, but
/// each is waited for, and two or four warps of a scheduler do not fill the time.
constexpr double kLookUpSlots = 30;
constexpr double kSegment = 2.0;             // microseconds: to begin a tile, to end it and to write it
constexpr double kFixUp = 2.6;               // to hand a part of a cut tile over,
constexpr double kFixUpPerElement = 6.3e-5;  // and to add the parts, per element and part

/// Products of 16-bit floats with fp32 sums that mma.sync makes in a cycle of a multiprocessor. The tensor
/// cores of small targets, which have 99 KiB for a block, are half as fast as those of sm_80; those of sm_90
/// do about 60 % of what warpgroup products do.
double multiplies_per_cycle(const TargetTraits& traits) {
  if (traits.warpgroup_products) return 1270;
  return traits.shared_bytes_per_block >= 128 << 10 ? 1024 : 512;
}

/// Of what is shorter than the longest of products, shared memory and issue, so much is not hidden behind it.
double hindrance(const MultistageSchedule& schedule) { return warps(schedule) > 8 ? 0.12 : 0.26; }

/// Cycles of a multiprocessor for one unit of a tile.
double unit_cycles(const KernelSpec& spec, const MultistageSchedule& schedule) {
  const double rows = schedule.tile_rows;
  const double tokens = schedule.tile_tokens;
  const double shares = rows / schedule.warp_rows;
  const int groups = groups_per_unit(spec);

  const double products = rows * tokens * layout::kRecordColumns / multiplies_per_cycle(spec.target.traits());
  const double reads_of_x = shares * 2 * tokens;  // wavefronts of 128 bytes
  const double ring = schedule.weights == WeightPath::registers ? 0 : rows * spec.format.bits / 4;
  const bool row_tables = spec.format.row_tables();  // looked up in registers
  const double shared = reads_of_x + 2 * tokens + (row_tables ? 0 : 2 * rows) + ring;

  const double record_mma = layout::kMmaPerRecord * tokens / 8;
  const double record_look_ups =
      layout::kMmaPerRecord *
      (row_tables ? row_look_up_instructions(spec.format.bits) * kCyclesOfPermutation : kLookUpSlots);
  const double record_scaling = groups == 0 ? 0 : schedule.scale_sums ? groups * tokens / 2 : 32;
  constexpr double kOther = 150;  // copies, walks, barriers
  const double issue =
      shares * (records(schedule) * (record_mma + record_look_ups + record_scaling) + tokens / 2 + kOther) /
      kSchedulers;
  const double longest = std::max({products, shared, issue});
  return longest + hindrance(schedule) * (products + shared + issue - longest);
}

}  // namespace

/// Microseconds of one launch: the slower of memory and of the block with the most units. Good for an order,
/// not for a promise.
double Multistage::estimated_microseconds(const KernelSpec& spec, const MultistageSchedule& schedule,
                                          const GpuModel& gpu, int partitions) {
  const LaunchRecipe recipe = launch_recipe(spec, schedule);
  const Result<Partition> cut = partition(recipe, spec.m, gpu.multiprocessors, partitions);
  if (!cut) return HUGE_VAL;
  const int shared = cut->grains_per_partition + (cut->extra_grains > 0 ? 1 : 0);
  const int units = shared * cut->steps_per_grain + cut->whole_tiles * recipe.steps_per_tile;
  const int waves = (cut->partitions + gpu.multiprocessors - 1) / gpu.multiprocessors;
  const double issue = waves * units * unit_cycles(spec, schedule) / kCyclesPerMicrosecond;
  const double memory =
      static_cast<double>(packed_layout(spec.format).packed_bytes()) / gpu.bytes_per_second * 1e6;

  const bool is_cut = cut->sharing > 0 && cut->steps_per_grain < recipe.steps_per_tile;
  const int rest = (cut->sharing * cut->grains_per_partition + cut->extra_grains) * cut->steps_per_grain /
                   recipe.steps_per_tile;  // tiles
  const double parts = is_cut ? static_cast<double>(cut->sharing) / rest : 0;
  // A range that is no equal part of a tile has two.
  const bool straddles = is_cut && cut->sharing % rest != 0;
  const double segments = waves * (cut->whole_tiles + (straddles ? 2 : shared > 0 ? 1 : 0));
  const double elements = schedule.tile_rows * schedule.tile_tokens;
  const double fix_up = is_cut ? (straddles ? 2 : 1) * (kFixUp + kFixUpPerElement * parts * elements) : 0;
  return std::max(memory, issue) + segments * kSegment + fix_up;
}

}  // namespace lutsmith
