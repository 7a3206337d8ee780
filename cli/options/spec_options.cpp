#include "cli/options/spec_options.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <set>
#include <string_view>

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

void add_schedule_options(CLI::App& verb, ScheduleOverride& schedule) {
  std::set<std::string> added;  // families may have fields of the same name
  core::for_each_schedule([&]<class Own>() {
    const Own own;
    visit_fields(own, [&]<class Value>(const FieldInfo& field, const Value& /*value*/) {
      const std::string name = "--" + core::option_name(field);
      if (!added.insert(name).second) return;
      const auto set = [&schedule, key = std::string(field.name)](const std::string& text) {
        schedule.fields[key] = text;
      };
      verb.add_option_function<std::string>(name, set, fmt::format("{}: {}", field.meaning, field.allowed))
          ->type_name(type_name<Value>())
          ->group("Schedule (each replaces that field of the model's first choice)");
    });
  });
}

void add_spec_options(CLI::App& verb, SpecOptions& options) {
  add_spec_options(verb, options.text);
  add_schedule_options(verb, options.schedule);
}

}  // namespace lutsmith::cli
