#include "lutsmith/schedule.h"

#include <fmt/format.h>

#include "core/field_text.h"

namespace lutsmith {

std::string_view to_string(WeightPath path) {
  switch (path) {
    case WeightPath::registers:
      return "registers";
    case WeightPath::async_copy:
      return "async_copy";
    case WeightPath::bulk_copy:
      return "bulk_copy";
  }
  return "unknown";
}

Result<WeightPath> parse_weight_path(std::string_view name) {
  for (const WeightPath path : {WeightPath::registers, WeightPath::async_copy, WeightPath::bulk_copy}) {
    if (to_string(path) == name) return path;
  }
  return refuse(fmt::format("weights: '{}' is not known; allowed: registers, async_copy, bulk_copy", name));
}

std::string describe(const Schedule& schedule) {
  return std::visit([](const auto& own) { return core::describe_fields(own); }, schedule);
}

}  // namespace lutsmith
