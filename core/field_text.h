#pragma once

#include <charconv>
#include <concepts>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>
#include <variant>

#include <fmt/format.h>

#include "core/result.h"
#include "lutsmith/fields.h"
#include "lutsmith/kernel_spec.h"
#include "lutsmith/schedule.h"

// The fields of specs and schedules as text: on the command line, in messages and descriptions.

namespace lutsmith::core {

template <class Value>
concept Number = std::integral<Value> && !std::same_as<Value, bool>;

// A type of field that is written as a name has an overload of each of these two.
inline Result<DataType> parse_name(std::string_view text, DataType) { return parse_data_type(text); }
inline Result<TableKind> parse_name(std::string_view text, TableKind) { return parse_table_kind(text); }
inline Result<WeightPath> parse_name(std::string_view text, WeightPath) { return parse_weight_path(text); }
inline Result<Gate> parse_name(std::string_view text, Gate) { return parse_gate(text); }
inline Result<OutputType> parse_name(std::string_view text, OutputType) { return parse_output_type(text); }
inline Result<Target> parse_name(std::string_view text, const Target&) { return Target::parse(text); }

template <class Value>
std::string_view name_of(const Value& value) {
  return to_string(value);
}
inline std::string_view name_of(const Target& target) { return target.name(); }

/// The value as it is written on the command line: "4", "channel", "on", "bf16", "sm_90a".
template <class Value>
std::string field_text(const FieldInfo& field, const Value& value) {
  if constexpr (std::same_as<Value, bool>) {
    return value ? "on" : "off";
  } else if constexpr (Number<Value>) {
    return value == 0 && !field.zero.empty() ? std::string(field.zero) : fmt::to_string(value);
  } else {
    return std::string(name_of(value));
  }
}

/// A number of whatever type, or the word for 0.
template <Number Value>
Result<void> parse_number(const FieldInfo& field, std::string_view text, Value& value) {
  if (!field.zero.empty() && text == field.zero) {
    value = 0;
    return {};
  }
  Value parsed = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), parsed);
  const bool whole = error == std::errc{} && end == text.data() + text.size();
  if (!field.zero.empty() && (!whole || parsed == 0)) {
    return refuse(fmt::format("{}: '{}' is not allowed; allowed: {}", field.name, text, field.allowed));
  }
  if (!whole) return refuse(fmt::format("{}: '{}' is not a whole number in range", field.name, text));
  value = parsed;
  return {};
}

/// The inverse of `field_text`. Error: invalid_argument, naming the field.
template <class Value>
Result<void> parse_field(const FieldInfo& field, std::string_view text, Value& value) {
  if constexpr (Number<Value>) {
    return parse_number(field, text, value);
  } else if constexpr (std::same_as<Value, bool>) {
    if (text != "on" && text != "off") {
      return refuse(fmt::format("{}: '{}' is not known; allowed: on, off", field.name, text));
    }
    value = text == "on";
    return {};
  } else {
    Result<Value> parsed = parse_name(text, value);
    if (!parsed) return failure(parsed);
    value = *std::move(parsed);
    return {};
  }
}

/// The name of a field's option, without the dashes in front: "tile-rows".
std::string option_name(const FieldInfo& field);

/// The field's part of a description, see FieldInfo::described.
template <class Value>
std::string described_field(const FieldInfo& field, const Value& value) {
  if (field.only_where_set && value == Value{}) return {};
  if constexpr (std::same_as<Value, bool>) {
    return value ? std::string(field.described) : std::string();
  } else {
    const std::string text = field_text(field, value);
    return fmt::format(fmt::runtime(field.described), text, fmt::arg("s", text == "1" ? "" : "s"));
  }
}

/// Calls `visit.operator()<Own>()` for the schedule of every family.
template <class Visit>
void for_each_schedule(Visit&& visit) {
  [&visit]<class... Own>(std::type_identity<std::variant<Own...>>) {
    (visit.template operator()<Own>(), ...);
  }(std::type_identity<Schedule>());
}

inline std::string_view family_of(const Schedule& schedule) {
  return std::visit([](const auto& own) { return std::string_view(own.kFamily); }, schedule);
}

/// All fields in one line.
template <class Object>
std::string describe_fields(const Object& object) {
  std::string text;
  visit_fields(object,
               [&](const FieldInfo& field, const auto& value) { text += described_field(field, value); });
  return text;
}

/// The options that name a spec or schedule on the command line: " --bits 4 --group 128 ...".
template <class Object>
std::string command_options(const Object& object) {
  std::string text;
  visit_fields(object, [&]<class Value>(const FieldInfo& field, const Value& value) {
    if (field.only_where_set && value == Value{}) return;
    text += fmt::format(" --{} {}", option_name(field), field_text(field, value));
  });
  return text;
}

}  // namespace lutsmith::core
