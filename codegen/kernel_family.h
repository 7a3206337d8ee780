#pragma once

#include <concepts>
#include <string>
#include <string_view>
#include <vector>

#include "codegen/kernel_template.h"
#include "lutsmith/codegen.h"

namespace lutsmith {

/// A GPU as cost models see it.
struct GpuModel {
  /// The common product of a target, with the target's costs.
  static GpuModel of(const Target& target);

  int multiprocessors = 0;
  double bytes_per_second = 0;  ///< of its memory
  MeasuredCosts costs = {};
};

/// A family of kernels: one main loop with its schedules. What the generator and the runtime ask of it are
/// static functions of a class; codegen/families.h has the table of all, and nothing else depends on one.
/// All but `validate` and `candidates` may rely on a schedule that is valid for the spec.
template <class Family>
concept KernelFamily = requires(const KernelSpec& spec, const typename Family::Schedule& schedule,
                                KernelTemplate& text, const GpuModel& gpu, int number) {
  /// Its name in JSON: "few_tokens".
  { Family::Schedule::kFamily } -> std::convertible_to<std::string_view>;
  /// Every field against the others and the target's limits; the spec is valid.
  { Family::validate(spec, schedule) } -> std::same_as<Result<void>>;

  // To choose a schedule.

  /// What may be worth trying for a valid spec, in any order: all valid, none expected to spill. None where
  /// the family has no kernel for such a spec or target.
  { Family::candidates(spec) } -> std::same_as<std::vector<typename Family::Schedule>>;
  /// Of one launch with the spec's tokens and so many Stream-K partitions (0: as `partition` cuts it).
  /// Families are compared by it.
  { Family::estimated_microseconds(spec, schedule, gpu, number) } -> std::same_as<double>;
  /// Registers a thread needs at least; a schedule whose limit is below would spill.
  { Family::estimated_registers(spec, schedule) } -> std::same_as<int>;
  /// Registers a thread may use.
  { Family::register_limit(schedule) } -> std::same_as<int>;

  // To launch.

  /// Threads, shared memory, tiles, what partial sums cost and where they go.
  { Family::launch_recipe(spec, schedule) } -> std::same_as<LaunchRecipe>;
  /// The workspace for the family's largest launch on such a GPU.
  { Family::workspace_size(number) } -> std::same_as<WorkspaceSize>;

  // To write the source.

  /// The template that includes all others, such as "templates/few_tokens/kernel.cu". The generator sets
  /// what every kernel has: the spec's constants and the name.
  { Family::kTemplate } -> std::convertible_to<std::string_view>;
  /// The part of the kernel's name that comes from the schedule, unlike that of any other family: "t8".
  { Family::name_part(schedule) } -> std::same_as<std::string>;
  /// Sets the schedule's constants and chooses the modules, such as the look-up engine for the spec's bits.
  { Family::set_schedule(text, spec, schedule) } -> std::same_as<void>;
};

}  // namespace lutsmith
