#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

#include "choices/document.h"
#include "choices/document_values.h"
#include "core/field_json.h"
#include "core/result.h"
#include "lutsmith/codegen.h"

namespace lutsmith::choices {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kMeasurementParts = 5;
constexpr int kMostPartitions = 1 << 30;

Json spec_without_target(const KernelSpec& spec) {
  Json json = spec_json<Json>(spec);
  json.erase("target");
  return json;
}

Json to_json(const Entry& entry) {
  Json json{{"spec", spec_without_target(entry.spec)},
            {"choice", timed_json<Json>(entry.choice)},
            {"default", timed_json<Json>(entry.standard)},
            {"noise", rounded(entry.noise, kPartDecimals)},
            {"floor_microseconds", rounded(entry.floor_microseconds, kTimeDecimals)},
            {"floor_dependent_microseconds", rounded_or_null<Json>(entry.floor_dependent_microseconds)},
            {"fp16_microseconds", rounded_or_null<Json>(entry.fp16_microseconds)}};
  json["schedules"] = Json::array();
  for (const Schedule& schedule : entry.schedules) json["schedules"].push_back(schedule_json<Json>(schedule));
  json["measurements"] = Json::array();
  for (const Measurement& each : entry.measurements) {
    json["measurements"].push_back(
        Json::array({each.schedule, each.partitions, rounded(each.microseconds, kTimeDecimals),
                     rounded(each.spread, kPartDecimals), each.rounds}));
  }
  json["failures"] = Json::array();
  for (const Failure& each : entry.failures) {
    json["failures"].push_back({{"schedule", each.schedule}, {"reason", each.reason}});
  }
  json["conditions"] = conditions_json<Json>(entry.conditions);
  return json;
}

// Reading. Each returns false where a value is missing, of another type or not allowed.

/// Text that may be shown on a terminal: whoever wrote a document must not be able to write there.
bool read_text(const Json& object, const char* name, std::string& value) {
  const auto found = object.find(name);
  if (found == object.end() || !found->is_string()) return false;
  value = found->get<std::string>();
  return std::ranges::all_of(value, [](char c) { return c >= ' ' && c <= '~'; });
}

bool read_count(const Json& json, int& value, int least = 0) {
  if (!json.is_number_unsigned()) return false;
  const auto number = json.get<std::uint64_t>();
  value = static_cast<int>(std::min<std::uint64_t>(number, kMostPartitions));
  return number <= kMostPartitions && value >= least;
}

bool read_number(const Json& json, double& value) {
  if (!json.is_number()) return false;
  value = json.get<double>();
  return std::isfinite(value) && value >= 0;
}

bool read_time(const Json& json, double& microseconds) {
  return read_number(json, microseconds) && microseconds > 0;
}

/// A member that is there.
bool read_member(const Json& object, const char* name, auto&& read) {
  const auto found = object.find(name);
  return found != object.end() && read(*found);
}

bool read_optional(const Json& object, const char* name, std::optional<double>& value) {
  return read_member(object, name, [&](const Json& json) {
    if (json.is_null()) return true;
    return read_number(json, value.emplace());
  });
}

/// A member that documents did not always have.
bool read_power_capped(const Json& object, std::optional<bool>& value) {
  const auto found = object.find("power_capped");
  if (found == object.end() || found->is_null()) return true;
  if (!found->is_boolean()) return false;
  value = found->get<bool>();
  return true;
}

bool read_index(const Json& json, const Entry& entry, std::size_t& schedule) {
  int index = 0;
  if (!read_count(json, index)) return false;
  schedule = static_cast<std::size_t>(index);
  return schedule < entry.schedules.size();
}

bool read_timed(const Json& object, const char* name, const Entry& entry, Timed& timed) {
  return read_member(object, name, [&](const Json& json) {
    return json.is_object() &&
           read_member(json, "schedule",
                       [&](const Json& v) { return read_index(v, entry, timed.schedule); }) &&
           read_member(json, "partitions", [&](const Json& v) { return read_count(v, timed.partitions); }) &&
           read_member(json, "microseconds", [&](const Json& v) { return read_time(v, timed.microseconds); });
  });
}

bool read_schedules(const Json& json, Entry& entry) {
  if (!json.is_array()) return false;
  for (const Json& each : json) {
    Result<Schedule> schedule = read_schedule(each, FieldRule::any_version);
    if (!schedule) return false;
    entry.schedules.push_back(*schedule);
  }
  return true;
}

bool read_measurements(const Json& json, Entry& entry) {
  if (!json.is_array()) return false;
  return std::ranges::all_of(json, [&](const Json& each) {
    Measurement& added = entry.measurements.emplace_back();
    return each.is_array() && each.size() == kMeasurementParts &&
           read_index(each[0], entry, added.schedule) && read_count(each[1], added.partitions) &&
           read_time(each[2], added.microseconds) && read_number(each[3], added.spread) &&
           read_count(each[4], added.rounds);
  });
}

bool read_failures(const Json& json, Entry& entry) {
  if (!json.is_array()) return false;
  return std::ranges::all_of(json, [&](const Json& each) {
    Failure& added = entry.failures.emplace_back();
    return each.is_object() &&
           read_member(each, "schedule",
                       [&](const Json& v) { return read_index(v, entry, added.schedule); }) &&
           read_text(each, "reason", added.reason);
  });
}

bool read_quality(const Json& json, Quality& quality) {
  for (const Quality each : {Quality::good, Quality::noisy, Quality::throttled, Quality::busy}) {
    if (json != to_string(each)) continue;
    quality = each;
    return true;
  }
  return false;
}

bool read_conditions(const Json& json, Conditions& conditions) {
  return json.is_object() && read_text(json, "measured", conditions.measured) &&
         read_member(json, "quality", [&](const Json& v) { return read_quality(v, conditions.quality); }) &&
         read_text(json, "driver", conditions.driver) && read_text(json, "compiler", conditions.compiler) &&
         read_text(json, "library", conditions.library) &&
         read_optional(json, "clock_mhz", conditions.clock_mhz) &&
         read_optional(json, "memory_clock_mhz", conditions.memory_clock_mhz) &&
         read_optional(json, "power_watts", conditions.power_watts) &&
         read_optional(json, "temperature_celsius", conditions.temperature_celsius) &&
         read_text(json, "throttled_by", conditions.throttled_by) &&
         read_power_capped(json, conditions.power_capped) &&
         read_member(json, "other_processes", [&](const Json& v) {
           return v.is_null() || read_count(v, conditions.other_processes.emplace());
         });
}

bool read_entry(const Json& json, const Gpu& gpu, Entry& entry) {
  if (!json.is_object()) return false;
  entry.spec.target = gpu.target;
  const bool complete =
      read_member(
          json, "spec",
          [&](const Json& v) { return read_fields(v, entry.spec, FieldRule::any_version, "target"); }) &&
      read_member(json, "schedules", [&](const Json& v) { return read_schedules(v, entry); }) &&
      read_timed(json, "choice", entry, entry.choice) && read_timed(json, "default", entry, entry.standard) &&
      read_member(json, "noise", [&](const Json& v) { return read_number(v, entry.noise); }) &&
      read_member(json, "floor_microseconds",
                  [&](const Json& v) { return read_number(v, entry.floor_microseconds); }) &&
      read_optional(json, "floor_dependent_microseconds", entry.floor_dependent_microseconds) &&
      read_optional(json, "fp16_microseconds", entry.fp16_microseconds) &&
      read_member(json, "measurements", [&](const Json& v) { return read_measurements(v, entry); }) &&
      read_member(json, "failures", [&](const Json& v) { return read_failures(v, entry); }) &&
      read_member(json, "conditions", [&](const Json& v) { return read_conditions(v, entry.conditions); });
  // Under a schedule that this version would not run, an entry is as good as none.
  return complete && token_bucket(entry.spec.m) == entry.spec.m &&
         validate(entry.spec, entry.schedules[entry.choice.schedule]).has_value();
}

bool read_gpu(const Json& json, Gpu& gpu) {
  std::string target;
  if (!json.is_object() || !read_text(json, "name", gpu.name) || !read_text(json, "target", target) ||
      !read_member(json, "multiprocessors",
                   [&](const Json& v) { return read_count(v, gpu.multiprocessors, 1); })) {
    return false;
  }
  const Result<Target> parsed = Target::parse(target);
  if (!parsed) return false;
  gpu.target = *parsed;
  return true;
}

/// Whether JSON is nested deeper than that of any version: writing it again would take too much stack.
bool is_nested_deeply(std::string_view text) {
  constexpr int kDeepest = 64;
  int depth = 0;
  bool quoted = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quoted && c == '\\') {
      ++i;
    } else if (c == '"') {
      quoted = !quoted;
    } else if (!quoted && (c == '[' || c == '{')) {
      if (++depth > kDeepest) return true;
    } else if (!quoted && (c == ']' || c == '}')) {
      --depth;
    }
  }
  return false;
}

std::unexpected<Error> wrong(std::string reason) {
  return std::unexpected(Error{ErrorCode::corrupt_data, std::move(reason), ""});
}

}  // namespace

Result<Document> parse_document(std::string_view text) {
  if (is_nested_deeply(text)) return wrong("it is nested deeper than a document of tuned choices");
  const Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded()) return wrong("it is no JSON, or cut off");
  if (!json.is_object() || !json.contains("schema") || !json["schema"].is_number_unsigned()) {
    return wrong("it is no document of tuned choices");
  }
  if (const auto schema = json["schema"].get<std::uint64_t>(); schema != kSchema) {
    return std::unexpected(
        Error{ErrorCode::unsupported,
              fmt::format("its schema is {}; this version of lutsmith reads {}", schema, kSchema), ""});
  }
  Gpu gpu;
  if (!json.contains("gpu") || !read_gpu(json["gpu"], gpu)) return wrong("it names no GPU that is known");
  if (!json.contains("entries") || !json["entries"].is_array()) return wrong("it has no entries");
  Document document(std::move(gpu));
  for (const Json& each : json["entries"]) {
    Entry entry;
    if (!read_entry(each, document.gpu(), entry)) {
      document.unread_.push_back(each.dump());
      continue;
    }
    // There may be two, where a version that could not read the one has measured another.
    const Entry* other = document.find(entry.spec);
    if (other == nullptr || supersedes(entry, *other)) document.put(std::move(entry));
  }
  return document;
}

std::string write_document(const Document& document) {
  const Gpu& gpu = document.gpu();
  const Json head{
      {"name", gpu.name}, {"multiprocessors", gpu.multiprocessors}, {"target", gpu.target.name()}};
  std::string text = fmt::format("{{\"schema\": {},\n \"gpu\": {},\n \"entries\": [", kSchema, head.dump());
  std::string_view separator = "\n  ";
  const auto add = [&](const std::string& entry) {
    text += separator;
    text += entry;
    separator = ",\n  ";
  };
  for (const auto& [name, entry] : document.entries()) {
    add(to_json(entry).dump(-1, ' ', /*ensure_ascii=*/true, Json::error_handler_t::replace));
  }
  for (const std::string& entry : document.unread_) add(entry);
  return text + "]}\n";
}

}  // namespace lutsmith::choices
