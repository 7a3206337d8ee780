#include "cli/options/schedule_override.h"

#include <fmt/format.h>

#include <algorithm>
#include <variant>

#include "core/field_text.h"
#include "core/result.h"

namespace lutsmith::cli {
namespace {

/// What else changes where fields of `first` have been replaced; nothing, unless the family says so below.
template <class Own>
void settle(Own& /*schedule*/, const Own& /*first*/, const ScheduleOverride& /*override*/) {}

void settle(FewTokensSchedule& schedule, const FewTokensSchedule& first, const ScheduleOverride& override) {
  // The depth that suits every path best; one of the other path might not be allowed.
  constexpr int kUsualStages = 2;
  const bool given = override.fields.contains("stages");
  if (schedule.weights != first.weights && !given) schedule.stages = kUsualStages;
}

template <class Own>
Result<void> replace_fields(Own& schedule, const ScheduleOverride& override) {
  const Own first = schedule;
  Result<void> done;
  std::size_t used = 0;
  visit_fields(schedule, [&](const FieldInfo& field, auto& value) {
    const auto text = override.fields.find(field.name);
    if (!done || text == override.fields.end()) return;
    ++used;
    done = core::parse_field(field, text->second, value);
  });
  if (!done) return done;
  if (used < override.fields.size()) {
    return refuse(fmt::format(
        "schedule: the kernel is of the family {}, which lacks some of the fields given", Own::kFamily));
  }
  settle(schedule, first, override);
  return {};
}

}  // namespace

Result<std::optional<Schedule>> apply(const ScheduleOverride& override, const KernelSpec& spec) {
  if (override.empty()) return std::nullopt;
  const auto candidates = schedules(spec);
  if (!candidates) return std::unexpected(candidates.error());
  if (candidates->empty()) return std::nullopt;  // the service says why
  const auto first = std::ranges::find_if(*candidates, [&override](const Schedule& candidate) {
    return override.family.empty() || core::family_of(candidate) == override.family;
  });
  if (first == candidates->end()) {
    return refuse(fmt::format("schedule: family: '{}' has no kernel for {}; allowed here: {}",
                              override.family, describe(spec), core::family_of(candidates->front())));
  }
  Schedule result = *first;
  Result<void> replaced = std::visit([&](auto& own) { return replace_fields(own, override); }, result);
  if (!replaced) return failure(replaced);
  if (auto valid = validate(spec, result); !valid) return failure(valid);
  return result;
}

}  // namespace lutsmith::cli
