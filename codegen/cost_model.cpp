#include <algorithm>
#include <cmath>
#include <utility>

#include "codegen/resources.h"
#include "lutsmith/codegen.h"
#include "templates/abi/packed_layout.h"
#include "templates/few_tokens/shared_memory.h"

namespace lutsmith {
namespace {

constexpr int kRegistersPerMultiprocessor = 65536;
// What the kernel keeps besides fragments: addresses, cursors, look-ups under way. Read off ptxas.
constexpr int kOtherRegisters = 38;

int records(const Schedule& schedule) { return schedule.tile_rows / layout::kRecordRows; }

int token_groups(const Schedule& schedule) { return (schedule.tile_tokens + 7) / 8; }

int tokens_for(std::int64_t m) { return m == 1 ? 1 : m <= 8 ? 8 : 16; }

bool fits(const KernelSpec& spec, const Schedule& schedule) {
  const TargetTraits& traits = spec.target.traits();
  // Every resident block costs 1 KiB of shared memory on its own.
  const int shared = (shared_bytes(spec, schedule) + 1024) * schedule.blocks_per_multiprocessor;
  return validate(spec, schedule).has_value() && shared <= traits.shared_bytes_per_multiprocessor &&
         estimated_registers(spec, schedule) <= register_limit(schedule);
}

/// What a tile of several steps needs on top. From the third step on its activations do not stay in registers
/// but are loaded two steps ahead. Read off kernels at the edge of spilling: docs/registers.md.
int registers_for_steps(const KernelSpec& spec, const Schedule& schedule, int columns) {
  const int steps = (columns + schedule.warps - 1) / schedule.warps;
  const int tile = records(schedule) * token_groups(schedule);
  const bool ring = schedule.weights != WeightPath::registers;
  const int groups =
      spec.format.group == kPerChannel ? 1 : std::max(1, packed_layout(spec.format).groups_per_record());
  // The products of the next group are begun while those of the last are scaled; in the smallest tile, where
  // a group is over soonest, of the next two. Two steps leave room for that but in the largest tile, and so
  // does a stream in registers but with the shortest groups.
  const int ahead = tile == 1 && !ring ? 2 : 1;
  const bool overlaps = (steps > 2 || (steps == 2 && tile == 4)) && (ring || groups == 4);
  const int overlapping = overlaps ? (groups - 1) * tile * 4 * ahead : 0;
  // Few tokens do without the rest where every step is whole.
  const bool ragged = columns % schedule.warps != 0;
  if (steps <= 2 || (token_groups(schedule) == 1 && !ragged)) return overlapping;

  // Addresses. A ring has its own besides, which ptxas keeps for the parts of data centres, sm_90a to
  // sm_103a, only where scales stand in a plane.
  const int major = spec.target.traits().major;
  const bool keeps_addresses = ring && (major == 8 || major == 12);
  const bool plane = spec.format.group > layout::kRecordColumns;
  const int loading = (!ring ? 2 : keeps_addresses || plane ? 5 : 0) * token_groups(schedule);
  int joining = 0;  // codes that wait for their other slices, or for the group before
  if (spec.format.bits == 3 && keeps_addresses) joining = 4 * records(schedule);
  if (spec.format.bits == 4 && groups > 1) joining = 4 * records(schedule);
  return overlapping + loading + joining;
}

/// Issue slots of one unit, counted over a warp: fixed bookkeeping, look-ups and mma of each record,
/// and activations where they are loaded again for every unit.
double unit_instructions(const Schedule& schedule, int steps_per_tile) {
  const double mma = 57 + 24 * token_groups(schedule) + (schedule.weights == WeightPath::registers ? 0 : 2.5);
  const double activations = steps_per_tile > 2 ? 42 * token_groups(schedule) : 0;
  return 108 + records(schedule) * mma + activations;
}

/// Microseconds of one launch: the slower of memory and instruction issue on the multiprocessor with the
/// most work, and what stands around them. The numbers were fitted to 3,974 launches measured on an H200
/// (39 products, every candidate each); there the first choice is 2.4 % from the best in the mean. Good for
/// an order, not for a promise.
double estimated_microseconds(const KernelSpec& spec, const Schedule& schedule) {
  const TargetTraits& traits = spec.target.traits();
  const LaunchRecipe recipe = launch_recipe(spec, schedule);
  const Result<Partition> cut = partition(recipe, spec.m, traits.multiprocessors);
  if (!cut) return HUGE_VAL;

  const int blocks = (cut->partitions + traits.multiprocessors - 1) / traits.multiprocessors;
  const int steps = (cut->grains_per_partition + (cut->extra_grains > 0 ? 1 : 0)) * cut->steps_per_grain;
  const double warps = schedule.warps * blocks;  // of one multiprocessor
  const double units = steps * warps;            // a ragged last step takes as long as a whole one

  const double unit_bytes = shared_memory::stage_bytes(packed_layout(spec.format), schedule.tile_rows);
  const double memory = units * unit_bytes / (traits.bytes_per_second / traits.multiprocessors) * 1e6;
  constexpr double kSchedulers = 4;
  constexpr double kCyclesPerMicrosecond = 1800;
  const double hiding = (warps + 9) / warps;  // few warps leave issue slots empty
  double issue = units * unit_instructions(schedule, recipe.steps_per_tile) / kSchedulers * hiding /
                 kCyclesPerMicrosecond;
  // A deeper ring than two stages only moves work to the start.
  if (schedule.weights != WeightPath::registers) issue *= 1 + 0.007 * (schedule.stages - 2);

  const double tile_elements = schedule.tile_rows * schedule.tile_tokens;
  const double segments = std::ceil(static_cast<double>(steps) / recipe.steps_per_tile);
  const double reduction = segments * 0.005 * tile_elements / schedule.warps;
  const bool whole = cut->steps_per_grain == recipe.steps_per_tile;
  const double fix_up = whole ? 0 : 2.4 + 0.0084 * tile_elements;
  return std::max(memory, issue) + 0.03 * steps + reduction + fix_up;
}

std::vector<Schedule> all_candidates(const KernelSpec& spec) {
  const TargetTraits& traits = spec.target.traits();
  const WeightPath ring = traits.bulk_copy ? WeightPath::bulk_copy : WeightPath::async_copy;
  const std::pair<WeightPath, int> paths[] = {
      {WeightPath::registers, 2}, {WeightPath::registers, 3}, {ring, 2}, {ring, 3}, {ring, 4}, {ring, 6}};
  const std::int64_t columns = packed_layout(spec.format).column_blocks();
  std::vector<Schedule> candidates;
  for (int warps = 1; warps <= 16; ++warps) {
    // A number of warps is worth trying where it is usual, or leaves none idle in the last step.
    if (warps != 4 && warps != 8 && warps != 16 && columns % warps != 0) continue;
    for (const int tile_rows : {16, 32}) {
      for (const auto& [path, stages] : paths) {
        for (const int blocks : {1, 2}) {
          const Schedule schedule{.tile_rows = tile_rows,
                                  .tile_tokens = tokens_for(spec.m),
                                  .warps = warps,
                                  .weights = path,
                                  .stages = stages,
                                  .blocks_per_multiprocessor = blocks,
                                  .dependent_launch = traits.dependent_launch};
          if (fits(spec, schedule)) candidates.push_back(schedule);
        }
      }
    }
  }
  return candidates;
}

}  // namespace

int estimated_registers(const KernelSpec& spec, const Schedule& schedule) {
  const int columns = static_cast<int>(packed_layout(spec.format).column_blocks());
  const int steps = (columns + schedule.warps - 1) / schedule.warps;
  const bool per_channel = spec.format.group == kPerChannel;
  const int groups = per_channel ? 0 : std::max(1, packed_layout(spec.format).groups_per_record());
  const int unit = records(schedule) * (2 * spec.format.bits + groups);  // scales take a word a group
  const int units = schedule.weights == WeightPath::registers ? schedule.stages : 1;
  const int activations = token_groups(schedule) * 16 * std::min(2, steps);
  const int sums = records(schedule) * token_groups(schedule) * 4 * 2;
  // Joining slices and scaling keep more values alive at once.
  const int joining = spec.format.bits < 4 ? 4 : 0;
  const int scaling = groups > 1 ? 2 * groups * records(schedule) : 0;
  return unit * units + activations + sums + joining + scaling +
         registers_for_steps(spec, schedule, columns) + kOtherRegisters;
}

int register_limit(const Schedule& schedule) {
  // Each of the four schedulers has a quarter of the registers, shared by its warps in units of 8 a thread.
  constexpr int kSchedulers = 4;
  const int warps = (schedule.warps + kSchedulers - 1) / kSchedulers * schedule.blocks_per_multiprocessor;
  return std::min(255, kRegistersPerMultiprocessor / kSchedulers / layout::kLanes / warps / 8 * 8);
}

Result<std::vector<Schedule>> schedules(const KernelSpec& spec) {
  if (Result<void> valid = validate(spec); !valid) return std::unexpected(valid.error());
  KernelSpec bucket = spec;
  bucket.m = token_bucket(spec.m);
  std::vector<std::pair<double, Schedule>> ranked;
  for (const Schedule& schedule : all_candidates(bucket)) {
    ranked.emplace_back(estimated_microseconds(bucket, schedule), schedule);
  }
  std::ranges::stable_sort(ranked, {}, &std::pair<double, Schedule>::first);
  std::vector<Schedule> result;
  for (auto& [microseconds, schedule] : ranked) result.push_back(schedule);
  return result;
}

}  // namespace lutsmith
