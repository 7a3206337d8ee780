#include <algorithm>
#include <cmath>

#include "codegen/many_tokens/many_tokens.h"
#include "codegen/row_tables.h"
#include "templates/abi/packed_layout.h"

namespace lutsmith {
namespace {

using namespace many_tokens;

// What an H100 was seen to need, fitted to 2,730 times of 70 layers and 32 to 4096 tokens (docs/tuning.md).
// An H200 differs by its memory, and no other GPU has this family.

constexpr double kCyclesPerMicrosecond = 1954;
/// Of one multiprocessor while look-ups go on beside; of what it can do without, 2048, about a sixth is lost.
constexpr double kMultipliesPerCycle = 1700;
/// A record of 16 rows and 128 k, from codes to A registers, with four products at a time and with one.
constexpr double kRecordCyclesOfFour = 87.5;
constexpr double kRecordCyclesOfOne = 103;
/// The part by which look-ups and products, which both read shared memory, lengthen each other.
constexpr double kHindrance = 0.72;
constexpr double kStart = 1.53;        // microseconds: from one launch to the next,
constexpr double kSegment = 0.78;      // to begin a tile and to end it,
constexpr double kFixUp = 1.14;        // to hand a part of a cut tile over,
constexpr double kAdded = 5.3e-5;      // and to add the parts, per element and part,
constexpr double kExchange = 0.71;     // to begin and end a tile together with the other block of a cluster,
constexpr double kExchanged = 3.8e-5;  // per element
/// The part that a launch takes longer where its blocks are everywhere along K at a time, once X and weights,
/// which all of them read, are more than the L2 cache keeps of them.
constexpr double kScattered = 0.073;
constexpr double kCachedBytes = 40e6;
/// The part of the time that the next launch wins on multiprocessors to which this one gives no block.
constexpr double kWonByTheNext = 0.42;
/// Up to 16 tokens kernels for few tokens are offered as well. Those of many rows are up to a fifth faster
/// than estimated, so these here have to win by a tenth.
constexpr double kBesideFewTokens = 1.1;
constexpr std::int64_t kMostOfFewTokens = 16;

/// By which a record takes longer with a table for each row: instead of four addresses and look-ups of pairs
/// there are more instructions. Guessed; no such kernel was measured yet.
double row_table_cycles(const WeightFormat& format) {
  constexpr int kOfPairs = 8;
  constexpr double kSchedulers = 4;
  if (!format.row_tables()) return 0;
  return layout::kMmaPerRecord * (row_look_up_instructions(format.bits) - kOfPairs) * kCyclesOfPermutation /
         kSchedulers;
}

/// Cycles of a unit.
double unit_cycles(const WeightFormat& format, const ManyTokensSchedule& schedule) {
  const double record =
      (schedule.commit_steps == 1 ? kRecordCyclesOfOne : kRecordCyclesOfFour) + row_table_cycles(format);
  const double looking_up = static_cast<double>(schedule.tile_rows) / layout::kRecordRows * record;
  const double multiplying =
      schedule.tile_rows * schedule.tile_tokens * layout::kRecordColumns / kMultipliesPerCycle;
  return std::max(looking_up, multiplying) + kHindrance * std::min(looking_up, multiplying);
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
  const int resident = resident_partitions(recipe, gpu.multiprocessors);
  const int waves = (cut->partitions + resident - 1) / resident;
  const double issue = waves * units * unit_cycles(spec.format, schedule) / kCyclesPerMicrosecond;
  const auto weight_bytes = static_cast<double>(packed_layout(spec.format).packed_bytes());
  const double memory = weight_bytes / gpu.bytes_per_second * 1e6;

  const bool is_cut = cut->sharing > 0 && cut->steps_per_grain < recipe.steps_per_tile;
  const int rest = (cut->sharing * cut->grains_per_partition + cut->extra_grains) * cut->steps_per_grain /
                   recipe.steps_per_tile;  // tiles
  const double parts = is_cut ? static_cast<double>(cut->sharing) / rest : 0;
  const bool straddles =
      is_cut && cut->sharing % rest != 0;  // a range that is no equal part of a tile has two
  const double segments = waves * (cut->whole_tiles + (straddles ? 2 : shared > 0 ? 1 : 0));
  const double elements = schedule.tile_rows * schedule.tile_tokens;
  const double added = kAdded * parts * elements / schedule.cluster_blocks;
  const double fix_up = is_cut ? (straddles ? 2 : 1) * (kFixUp + added) : 0;
  const double exchange = schedule.cluster_blocks > 1 ? kExchange + kExchanged * elements : 0;
  const double idle = 1 - std::min(1.0, static_cast<double>(cut->partitions) / resident);
  const double read_bytes = static_cast<double>(spec.m * spec.format.k * 2) + weight_bytes;
  const double scattered = straddles ? kScattered * std::min(1.0, read_bytes / kCachedBytes) : 0;
  const double time = (kStart + std::max(memory, issue) * (1 - kWonByTheNext * idle) +
                       segments * (kSegment + exchange) + fix_up) *
                      (1 + scattered);
  const bool beside_few_tokens = spec.m <= kMostOfFewTokens && !spec.batch_invariant;
  return beside_few_tokens ? kBesideFewTokens * time : time;
}

}  // namespace lutsmith
