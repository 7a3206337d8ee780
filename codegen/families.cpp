#include "codegen/families.h"

#include <algorithm>
#include <utility>

#include "core/result.h"

namespace lutsmith {
namespace {

/// Whether all schedules that are allowed add a token's products in one order: one family for a target, one
/// group along K, no clusters, and scales on weights. Tiles, stages and where weights come from do not enter
/// it.
Result<void> validate_batch_invariance(const KernelSpec& spec, const Schedule& schedule) {
  if (!spec.batch_invariant) return {};
  if (spec.target.traits().warpgroup_products) {
    const auto* const own = std::get_if<ManyTokensSchedule>(&schedule);
    if (own != nullptr && own->k_groups == 1 && own->cluster_blocks == 1) return {};
    return refuse(
        "schedule: it would add up in another order than other batch-invariant kernels of this target; "
        "allowed with batch_invariant: the family many_tokens with k_groups 1 and "
        "cluster_blocks 1");
  }
  const auto* const own = std::get_if<MultistageSchedule>(&schedule);
  if (own != nullptr && own->k_groups == 1 && !own->scale_sums) return {};
  return refuse(
      "schedule: it would add up in another order than other batch-invariant kernels of this target; "
      "allowed with batch_invariant: the family multistage with k_groups 1 and scale_sums off");
}

/// The spec whose candidates are those of `bucket`: batch-invariant kernels for few tokens are of a family
/// for many.
KernelSpec proposed_for(KernelSpec bucket) {
  constexpr std::int64_t kFewestOfMany = 17;
  if (bucket.batch_invariant) bucket.m = std::max(bucket.m, kFewestOfMany);
  return bucket;
}

}  // namespace

Result<void> validate(const KernelSpec& spec, const Schedule& schedule) {
  if (Result<void> valid = validate(spec); !valid) return valid;
  if (Result<void> valid = validate_batch_invariance(spec, schedule); !valid) return valid;
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
    for (const auto& schedule : Family::candidates(proposed_for(bucket))) {
      if (!validate_batch_invariance(bucket, schedule)) continue;
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
