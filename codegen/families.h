#pragma once

#include <tuple>
#include <type_traits>
#include <variant>

#include "codegen/few_tokens/few_tokens.h"
#include "codegen/kernel_family.h"
#include "codegen/many_tokens/many_tokens.h"
#include "codegen/multistage/multistage.h"

namespace lutsmith {

/// All families of kernels, in the order of their schedules in `Schedule`.
using KernelFamilies = std::tuple<FewTokens, ManyTokens, Multistage>;

namespace detail {
template <class Families>
struct FamilyTable;
template <KernelFamily... Family>
struct FamilyTable<std::tuple<Family...>> {
  using Schedules = std::variant<typename Family::Schedule...>;

  template <class Visit>
  static void for_each(Visit&& visit) {
    (visit.template operator()<Family>(), ...);
  }
};
}  // namespace detail

static_assert(std::is_same_v<detail::FamilyTable<KernelFamilies>::Schedules, Schedule>,
              "every family has its schedule in Schedule, and in the same place");

/// Calls `visit.operator()<Family>()` for every family.
template <class Visit>
void for_each_family(Visit&& visit) {
  detail::FamilyTable<KernelFamilies>::for_each(visit);
}

/// Calls `visit.operator()<Family>(the family's own schedule)` for the family that a schedule belongs to.
template <class Visit>
decltype(auto) visit_family(const Schedule& schedule, Visit&& visit) {
  return std::visit(
      [&]<class Own>(const Own& own) -> decltype(auto) {
        constexpr std::size_t kPlace = Schedule(std::in_place_type<Own>).index();
        return visit.template operator()<std::tuple_element_t<kPlace, KernelFamilies>>(own);
      },
      schedule);
}

/// Of a valid spec and schedule.
LaunchRecipe launch_recipe(const KernelSpec& spec, const Schedule& schedule);

/// Microseconds of a launch with the spec's tokens and so many Stream-K partitions (0: as `partition` cuts
/// it) by the family's cost model, for a valid spec and schedule. Infinity for what cannot be launched.
double estimated_microseconds(const KernelSpec& spec, const Schedule& schedule, const GpuModel& gpu,
                              int partitions = 0);

}  // namespace lutsmith
