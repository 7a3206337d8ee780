#include <algorithm>
#include <cmath>
#include <utility>

#include "codegen/resources.h"
#include "lutsmith/codegen.h"
#include "templates/packed_layout.h"
#include "templates/shared_memory.h"

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

/// Seconds of one launch, from bytes, waves and fix-up. Good for an order, not for a promise.
double estimated_seconds(const KernelSpec& spec, const Schedule& schedule) {
  const TargetTraits& traits = spec.target.traits();
  const LaunchRecipe recipe = launch_recipe(spec, schedule);
  const Result<Partition> cut = partition(recipe, spec.m, traits.multiprocessors);
  if (!cut) return HUGE_VAL;

  const double unit_bytes = shared_memory::stage_bytes(spec.bits, spec.group, schedule.tile_rows);
  const int blocks = std::min<int>(schedule.blocks_per_multiprocessor,
                                   (cut->partitions + traits.multiprocessors - 1) / traits.multiprocessors);
  // Memory answers after a latency, so what is under way limits the rate (Little's law).
  constexpr double kLatency = 0.8e-6;
  const double in_flight = unit_bytes * schedule.warps * schedule.stages * blocks;
  const double share = 0.92 * traits.bytes_per_second / traits.multiprocessors;
  const double rate = std::min(share, in_flight / kLatency);

  const std::int64_t longest =
      std::int64_t{cut->grains_per_partition + (cut->extra_grains > 0 ? 1 : 0)} * cut->steps_per_grain;
  // A ragged last step takes as long as a whole one.
  const double bytes = static_cast<double>(longest) * unit_bytes * schedule.warps * blocks;
  const double segments = std::ceil(static_cast<double>(longest) / recipe.steps_per_tile);
  constexpr double kSegment = 0.12e-6;  // the reduction over the warps, partly hidden
  constexpr double kFixUp = 1.2e-6;
  const bool whole = cut->steps_per_grain == recipe.steps_per_tile;
  return bytes / rate + segments * kSegment / blocks + (whole ? 0 : kFixUp);
}

std::vector<Schedule> all_candidates(const KernelSpec& spec) {
  const TargetTraits& traits = spec.target.traits();
  const WeightPath ring = traits.bulk_copy ? WeightPath::bulk_copy : WeightPath::async_copy;
  const std::pair<WeightPath, int> paths[] = {
      {WeightPath::registers, 2}, {WeightPath::registers, 3}, {ring, 2}, {ring, 3}, {ring, 4}, {ring, 6}};
  const std::int64_t columns = layout::column_blocks(spec.k);
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
  const int columns = static_cast<int>(layout::column_blocks(spec.k));
  const int steps = (columns + schedule.warps - 1) / schedule.warps;
  const bool per_channel = spec.group == kPerChannel;
  const int scale_words = per_channel ? 0 : std::max(1, layout::groups_per_record(spec.group));
  const int unit = records(schedule) * (2 * spec.bits + scale_words);
  const int units = schedule.weights == WeightPath::registers ? schedule.stages : 1;
  const int activations = token_groups(schedule) * 16 * std::min(2, steps);
  const int sums = records(schedule) * token_groups(schedule) * 4 * (per_channel ? 1 : 2);
  return unit * units + activations + sums + kOtherRegisters;
}

int register_limit(const Schedule& schedule) {
  // Each of the four schedulers has a quarter of the registers, shared by its warps in units of 8 a thread.
  constexpr int kSchedulers = 4;
  const int warps = (schedule.warps + kSchedulers - 1) / kSchedulers * schedule.blocks_per_multiprocessor;
  return std::min(255, kRegistersPerMultiprocessor / kSchedulers / layout::kLanes / warps / 8 * 8);
}

Result<std::vector<Schedule>> schedules(const KernelSpec& spec) {
  if (Result<void> valid = validate(spec); !valid) return std::unexpected(valid.error());
  std::vector<std::pair<double, Schedule>> ranked;
  for (const Schedule& schedule : all_candidates(spec)) {
    ranked.emplace_back(estimated_seconds(spec, schedule), schedule);
  }
  std::ranges::stable_sort(ranked, {}, &std::pair<double, Schedule>::first);
  std::vector<Schedule> result;
  for (auto& [seconds, schedule] : ranked) result.push_back(schedule);
  return result;
}

}  // namespace lutsmith
