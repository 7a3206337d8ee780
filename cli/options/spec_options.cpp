#include "cli/options/spec_options.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <iterator>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/field_text.h"

namespace lutsmith::cli {
namespace {

template <class Value>
std::string type_name() {
  return core::Number<Value> ? "INT" : std::is_same_v<Value, bool> ? "on|off" : "NAME";
}

/// What an option takes besides the values of the field.
std::string more_values(std::string_view field) {
  if (field == "m") return fmt::format("; all: {}, which serve every number", fmt::join(kTokenBuckets, ", "));
  return field == "target" ? "; native: this machine's GPU" : "";
}

}  // namespace

void add_spec_options(CLI::App& verb, SpecText& text) {
  const std::string group = "SPEC: which kernel (lists such as 1,16 make one kernel per value)";
  const auto add = [&](const std::string& name, std::string& value, const std::string& type,
                       const std::string& description) {
    CLI::Option* option = verb.add_option(name, value, description)->type_name(type)->group(group);
    if (!value.empty()) option->capture_default_str();
  };
  const KernelSpec spec;
  visit_fields(spec, [&](const FieldInfo& field, const auto& /*value*/) {
    add("--" + core::option_name(field), text[field.name], takes_list(field.name) ? "LIST" : "INT",
        fmt::format("{}: {}{}", field.meaning, field.allowed, more_values(field.name)));
  });
  add("--model", text.model, "LIST", "All linear layers of these models, instead of --n and --k");
  add("--tp", text.tp, "LIST", "With --model: GPUs the model is split over");
}

void add_epilogue_options(CLI::App& verb, SpecText& text) {
  const KernelSpec spec;
  visit_fields(spec, [&]<class Value>(const FieldInfo& field, const Value& /*value*/) {
    if (std::ranges::find(kEpilogueFields, field.name) == kEpilogueFields.end()) return;
    verb.add_option("--" + core::option_name(field), text[field.name],
                    fmt::format("{}: {}", field.meaning, field.allowed))
        ->type_name(type_name<Value>())
        ->capture_default_str();
  });
}

namespace {

/// An option for the fields of that name, of every family that has one.
struct ScheduleOption {
  std::string field;
  std::string type;
  std::string meaning;
  std::vector<std::string> allowed;  ///< by family
};

std::vector<std::pair<std::string, ScheduleOption>> schedule_options() {
  std::vector<std::pair<std::string, ScheduleOption>> options;
  core::for_each_schedule([&]<class Own>() {
    const Own own;
    visit_fields(own, [&]<class Value>(const FieldInfo& field, const Value& /*value*/) {
      const std::string name = "--" + core::option_name(field);
      auto known = std::ranges::find(options, name, [](const auto& option) { return option.first; });
      if (known == options.end()) {
        options.push_back(
            {name, {std::string(field.name), type_name<Value>(), std::string(field.meaning), {}}});
        known = std::prev(options.end());
      }
      known->second.allowed.push_back(fmt::format("{} ({})", field.allowed, Own::kFamily));
    });
  });
  return options;
}

}  // namespace

void add_schedule_options(CLI::App& verb, ScheduleOverride& schedule) {
  constexpr const char* kGroup = "Schedule (each replaces that field of the model's first choice)";
  std::vector<std::string_view> families;
  core::for_each_schedule([&]<class Own>() { families.push_back(Own::kFamily); });
  verb.add_option(
          "--family", schedule.family,
          fmt::format("The family of kernels: {}; else the model's choice", fmt::join(families, ", ")))
      ->type_name("NAME")
      ->check(CLI::IsMember(std::vector<std::string>(families.begin(), families.end())))
      ->group(kGroup);
  for (const auto& [name, option] : schedule_options()) {
    const auto set = [&schedule, key = option.field](const std::string& text) {
      schedule.fields[key] = text;
    };
    verb.add_option_function<std::string>(
            name, set, fmt::format("{}: {}", option.meaning, fmt::join(option.allowed, "; ")))
        ->type_name(option.type)
        ->group(kGroup);
  }
}

void add_spec_options(CLI::App& verb, SpecOptions& options) {
  add_spec_options(verb, options.text);
  add_schedule_options(verb, options.schedule);
}

}  // namespace lutsmith::cli
