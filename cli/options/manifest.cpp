#include "cli/options/manifest.h"
#include "cli/output/printable.h"
#include "core/field_text.h"
#include "core/result.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <expected>
#include <fstream>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <ranges>
#include <sstream>
#include <string_view>
#include <type_traits>
#include <utility>

namespace lutsmith::cli {
namespace {

using nlohmann::json;

std::unexpected<Error> refuse(std::size_t entry, std::string_view what) {
  return std::unexpected(
      Error{ErrorCode::invalid_argument, fmt::format("manifest entry {}: {}", entry, what), {}});
}

bool is_switch(std::string_view field) {
  bool found = false;
  const KernelSpec spec;
  visit_fields(spec, [&]<class Value>(const FieldInfo& known, const Value& /*value*/) {
    if (known.name == field) found = std::is_same_v<Value, bool>;
  });
  return found;
}

// A JSON value as it would be written on the command line.
Result<std::string> value_text(std::size_t entry, std::string_view field, bool list, const json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_number_integer()) return value.dump();
  if (value.is_boolean() && is_switch(field)) return value.get<bool>() ? "on" : "off";
  if (value.is_array() && list && !value.empty()) {
    std::string text;
    for (const json& item : value) {
      if (item.is_array()) return refuse(entry, fmt::format("{}: lists do not nest", field));
      const auto part = value_text(entry, field, list, item);
      if (!part) return part;
      text += (text.empty() ? "" : ",") + *part;
    }
    return text;
  }
  return refuse(entry, fmt::format("{}: must be a whole number or a string{}", field,
                                   list ? ", or an array of them" : ""));
}

/// The names of the fields of every family's schedule.
std::vector<std::string_view> schedule_fields() {
  std::vector<std::string_view> names;
  core::for_each_schedule([&]<class Own>() {
    const Own own;
    visit_fields(own, [&](const FieldInfo& field, const auto& /*value*/) {
      if (std::ranges::find(names, field.name) == names.end()) names.push_back(field.name);
    });
  });
  return names;
}

std::vector<std::string_view> families() {
  std::vector<std::string_view> names;
  core::for_each_schedule([&names]<class Own>() { names.push_back(Own::kFamily); });
  return names;
}

/// A schedule with the field names that `--json` and recordings use.
Result<ScheduleOverride> read_schedule(std::size_t entry, const json& object) {
  if (!object.is_object()) return refuse(entry, "schedule: must be an object such as {\"warps\": 8}");
  const std::vector<std::string_view> names = schedule_fields();
  ScheduleOverride schedule;
  for (const auto& [name, value] : object.items()) {
    if (name == "family") {
      const std::vector<std::string_view> known = families();
      if (!value.is_string() || std::ranges::find(known, value.get<std::string>()) == known.end()) {
        return refuse(entry, fmt::format("schedule: family: {} is not known; allowed: {}",
                                         printable(value.dump()), fmt::join(known, ", ")));
      }
      schedule.family = value.get<std::string>();
      continue;
    }
    if (std::ranges::find(names, name) == names.end()) {
      return refuse(entry, fmt::format("schedule: '{}' is not known; allowed: {}, family", printable(name),
                                       fmt::join(names, ", ")));
    }
    if (value.is_boolean()) {
      schedule.fields[name] = value.get<bool>() ? "on" : "off";
      continue;
    }
    auto text = value_text(entry, "schedule: " + name, /*list=*/false, value);
    if (!text) return std::unexpected(text.error());
    schedule.fields[name] = *std::move(text);
  }
  return schedule;
}

Result<ManifestEntry> read_entry(std::size_t entry, const json& object, ManifestEntry result) {
  if (!object.is_object()) return refuse(entry, "must be an object such as {\"n\": 4096, \"k\": 4096}");
  std::map<std::string, std::string*, std::less<>> texts{{"model", &result.text.model},
                                                         {"tp", &result.text.tp}};
  for (auto& [name, text] : result.text.fields) texts.emplace(name, &text);
  for (const auto& [name, value] : object.items()) {
    if (name == "schedule") {
      auto schedule = read_schedule(entry, value);
      if (!schedule) return std::unexpected(schedule.error());
      result.schedule = *std::move(schedule);
      continue;
    }
    if (name == "partitions") {  // recordings have it; it is an argument of launches, the kernel is the same
      if (!value.is_number_unsigned()) {
        return refuse(entry, fmt::format("partitions: {} is not allowed; allowed: whole numbers, 0 or more",
                                         printable(value.dump())));
      }
      continue;
    }
    const auto text = texts.find(name);
    if (text == texts.end()) {
      return refuse(entry, fmt::format("'{}' is not known; allowed: {}, schedule, partitions",
                                       printable(name), fmt::join(std::views::keys(texts), ", ")));
    }
    const auto read = value_text(entry, name, takes_list(name), value);
    if (!read) return std::unexpected(read.error());
    *text->second = *read;
  }
  return result;
}

/// One object a line, as recordings are; blank lines are passed over. The error is the number of a line that
/// is none.
std::expected<json, std::size_t> parse_lines(const std::string& text) {
  json entries = json::array();
  std::istringstream lines(text);
  std::size_t number = 0;
  for (std::string line; std::getline(lines, line);) {
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    json entry = json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!entry.is_object()) return std::unexpected(number);
    entries.push_back(std::move(entry));
  }
  return entries;
}

Result<json> parse_document(const std::filesystem::path& path, const std::string& text) {
  json document = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (document.is_array()) return document;
  auto entries = parse_lines(text);
  if (entries) return *std::move(entries);
  // What begins as an array is one that is not right, not lines.
  const std::size_t first = text.find_first_not_of(" \t\r\n");
  const bool array = first != std::string::npos && text[first] == '[';
  return std::unexpected(
      Error{ErrorCode::invalid_argument,
            fmt::format("manifest '{}' is not a JSON array of specs, nor one spec a line{}", path.string(),
                        array ? "" : fmt::format(": line {} is no JSON object", entries.error())),
            "see `lutsmith warm --help` for an example"});
}

}  // namespace

Result<std::vector<ManifestEntry>> read_manifest(const std::filesystem::path& path,
                                                 const ManifestEntry& defaults) {
  std::ifstream file(path, std::ios::binary);
  std::error_code failed;
  if (!file || std::filesystem::is_directory(path, failed)) {
    return std::unexpected(
        Error{ErrorCode::not_found, fmt::format("manifest '{}' cannot be read", path.string()), {}});
  }
  const std::string text(std::istreambuf_iterator<char>(file), {});
  const auto document = parse_document(path, text);
  if (!document) return std::unexpected(document.error());
  std::vector<ManifestEntry> result;
  for (std::size_t entry = 0; entry < document->size(); ++entry) {
    auto read = read_entry(entry, (*document)[entry], defaults);
    if (!read) return std::unexpected(read.error());
    result.push_back(*std::move(read));
  }
  return result;
}

}  // namespace lutsmith::cli
