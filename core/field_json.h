#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>

#include "core/field_text.h"
#include "core/result.h"
#include "lutsmith/kernel_spec.h"
#include "lutsmith/schedule.h"

namespace lutsmith {

// Specs and schedules as JSON: one set of field names for cache manifests, warm-up manifests, documents of
// tuned choices and what the command line prints. `Json` is nlohmann's json or ordered_json.

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
  visit_fields(object, [&json]<class Value>(const FieldInfo& field, const Value& value) {
    if (field.only_where_set && value == Value{}) return;
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

/// Which fields an object must have, and may have, to be read.
enum class FieldRule {
  /// Every one. What else it has is passed over.
  all,
  /// Those that the version of the library had that wrote it. One that was added since is left as it is: its
  /// initial value says what was done before there was such a field. One that is not known would change what
  /// the object means: it is refused.
  any_version,
};

/// The inverse of field_json. False where the value is of another type or not allowed.
template <class Json, class Value>
bool read_field(const Json& json, const FieldInfo& field, Value& value) {
  if constexpr (std::is_same_v<Value, bool>) {
    if (!json.is_boolean()) return false;
    value = json.template get<bool>();
    return true;
  } else {
    if (json.is_string()) {
      const bool named = !core::Number<Value> || !field.zero.empty();
      return named && core::parse_field(field, json.template get<std::string>(), value).has_value();
    }
    if constexpr (core::Number<Value>) {
      if (!json.is_number_unsigned()) return false;
      const auto number = json.template get<std::uint64_t>();
      if (!std::in_range<Value>(number)) return false;
      value = static_cast<Value>(number);
      return true;
    }
    return false;
  }
}

/// The inverse of fields_json. The member `except` is no field's: one of that name is left as it is.
template <class Json, class Object>
bool read_fields(const Json& json, Object& object, FieldRule rule = FieldRule::all,
                 std::string_view except = {}) {
  if (!json.is_object()) return false;
  bool good = true;
  std::size_t known = json.contains(except) ? 1 : 0;
  visit_fields(object, [&](const FieldInfo& field, auto& value) {
    if (field.name == except) return;
    const auto found = json.find(field.name);
    if (found == json.end()) {
      good = good && (rule == FieldRule::any_version || field.only_where_set);
      return;
    }
    ++known;
    good = good && read_field(*found, field, value);
  });
  return good && (rule == FieldRule::all || known == json.size());
}

/// The inverse of schedule_json. Errors: unsupported for a family that this version does not know,
/// corrupt_data.
template <class Json>
Result<Schedule> read_schedule(const Json& json, FieldRule rule = FieldRule::all) {
  const auto corrupt = [] {
    return std::unexpected(Error{ErrorCode::corrupt_data, "describes no schedule", ""});
  };
  if (!json.is_object()) return corrupt();
  std::string family(core::family_of(Schedule()));
  if (const auto named = json.find("family"); named != json.end()) {
    if (!named->is_string()) return corrupt();
    family = named->template get<std::string>();
  }
  Result<Schedule> schedule = std::unexpected(
      Error{ErrorCode::unsupported, "is of a family of kernels that this library does not have", ""});
  core::for_each_schedule([&]<class Own>() {
    if (family != Own::kFamily) return;
    Own own;
    schedule = read_fields(json, own, rule, "family") ? Result<Schedule>(own) : corrupt();
  });
  return schedule;
}

}  // namespace lutsmith
