#pragma once

#include <string>
#include <type_traits>
#include <variant>

#include "core/field_text.h"
#include "lutsmith/codegen.h"
#include "lutsmith/kernel_spec.h"

namespace lutsmith {

// Specs, schedules and recipes as JSON: one set of field names for cache manifests, warm-up manifests and
// what the command line prints. `Json` is nlohmann's json or ordered_json.

/// A group as it stands in a spec: a number, or "channel".
template <class Json>
Json group_json(int group) {
  return group == kPerChannel ? Json(group_name(group)) : Json(group);
}

/// The value of a field: a number, a name, the word for 0, or true and false.
template <class Json, class Value>
Json field_json(const FieldInfo& field, const Value& value) {
  if constexpr (std::is_same_v<Value, bool>) {
    return value;
  } else if constexpr (core::Number<Value>) {
    return value == 0 && !field.zero.empty() ? Json(field.zero) : Json(value);
  } else {
    return core::field_text(field, value);
  }
}

/// An object with the fields of a spec, or of the schedule of one family.
template <class Json, class Object>
Json fields_json(const Object& object) {
  Json json = Json::object();
  visit_fields(object, [&json](const FieldInfo& field, const auto& value) {
    json[std::string(field.name)] = field_json<Json>(field, value);
  });
  return json;
}

template <class Json>
Json spec_json(const KernelSpec& spec) {
  return fields_json<Json>(spec);
}

/// A schedule of any family but the first says which: {"family": "NAME", ...}.
template <class Json>
Json schedule_json(const Schedule& schedule) {
  return std::visit(
      [&schedule](const auto& own) {
        Json json = fields_json<Json>(own);
        if (schedule.index() > 0) json["family"] = own.kFamily;
        return json;
      },
      schedule);
}

template <class Json>
Json launch_json(const LaunchRecipe& launch) {
  return {{"threads", launch.threads},
          {"shared_bytes", launch.shared_bytes},
          {"tile_rows", launch.tile_rows},
          {"tile_tokens", launch.tile_tokens},
          {"row_tiles", launch.row_tiles},
          {"steps_per_tile", launch.steps_per_tile},
          {"blocks_per_multiprocessor", launch.blocks_per_multiprocessor},
          {"dependent_launch", launch.dependent_launch}};
}

}  // namespace lutsmith
