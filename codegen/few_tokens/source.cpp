#include <fmt/format.h>

#include <type_traits>

#include "codegen/few_tokens/few_tokens.h"

namespace lutsmith {
namespace {

std::string_view module_of(WeightPath path) {
  switch (path) {
    case WeightPath::registers:
      return "templates/weights/registers.cuh";
    case WeightPath::async_copy:
      return "templates/weights/async_copy.cuh";
    case WeightPath::bulk_copy:
      return "templates/weights/bulk_copy.cuh";
  }
  return {};
}

}  // namespace

std::string FewTokens::name_part(const FewTokensSchedule& schedule) {
  return fmt::format("t{}", schedule.tile_tokens);
}

void FewTokens::set_schedule(KernelTemplate& text, const KernelSpec& /*spec*/,
                             const FewTokensSchedule& schedule) {
  visit_fields(schedule, [&text]<class Value>(const FieldInfo& field, const Value& value) {
    if constexpr (std::is_same_v<Value, WeightPath>) {
      text.replace(module_of(WeightPath::registers), module_of(value));
    } else if constexpr (std::is_same_v<Value, bool>) {
      text.set_flag(constant_name(field.name), value);
    } else {
      text.set_constant(constant_name(field.name), std::int64_t{value});
    }
  });
}

}  // namespace lutsmith
