#include "codegen/families.h"

#include <algorithm>
#include <utility>

namespace lutsmith {

Result<void> validate(const KernelSpec& spec, const Schedule& schedule) {
  if (Result<void> valid = validate(spec); !valid) return valid;
  return visit_family(schedule, [&]<class Family>(const auto& own) { return Family::validate(spec, own); });
}

LaunchRecipe launch_recipe(const KernelSpec& spec, const Schedule& schedule) {
  return visit_family(schedule,
                      [&]<class Family>(const auto& own) { return Family::launch_recipe(spec, own); });
}

GpuModel GpuModel::of(const Target& target) {
  const TargetTraits& traits = target.traits();
  return {traits.multiprocessors, traits.bytes_per_second, traits.costs};
}

double estimated_microseconds(const KernelSpec& spec, const Schedule& schedule, const GpuModel& gpu,
                              int partitions) {
  return visit_family(schedule, [&]<class Family>(const auto& own) {
    return Family::estimated_microseconds(spec, own, gpu, partitions);
  });
}

WorkspaceSize workspace_size(int multiprocessors) {
  WorkspaceSize size;
  for_each_family([&]<class Family>() {
    const WorkspaceSize needed = Family::workspace_size(multiprocessors);
    size.partial_sum_bytes = std::max(size.partial_sum_bytes, needed.partial_sum_bytes);
    size.arrival_counters = std::max(size.arrival_counters, needed.arrival_counters);
  });
  return size;
}

Result<std::vector<Schedule>> schedules(const KernelSpec& spec) {
  if (Result<void> valid = validate(spec); !valid) return std::unexpected(valid.error());
  KernelSpec bucket = spec;
  bucket.m = token_bucket(spec.m);
  const GpuModel gpu = GpuModel::of(spec.target);
  std::vector<std::pair<double, Schedule>> ranked;
  for_each_family([&]<class Family>() {
    for (const auto& schedule : Family::candidates(bucket)) {
      ranked.emplace_back(Family::estimated_microseconds(bucket, schedule, gpu, 0), schedule);
    }
  });
  std::ranges::stable_sort(ranked, {}, &std::pair<double, Schedule>::first);
  std::vector<Schedule> result;
  result.reserve(ranked.size());
  for (auto& [microseconds, schedule] : ranked) result.push_back(schedule);
  return result;
}

}  // namespace lutsmith
