#include "cli/options/manifest.h"
#include "core/result.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <expected>
#include <fstream>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>
#include <string_view>
#include <utility>

namespace lutsmith::cli {
namespace {

using nlohmann::json;

struct Field {
  std::string_view name;
  std::string SpecText::* text;
  bool takes_list;
};

constexpr std::array kFields{
    Field{"bits", &SpecText::bits, true},   Field{"group", &SpecText::group, true},
    Field{"n", &SpecText::n, false},        Field{"k", &SpecText::k, false},
    Field{"m", &SpecText::m, true},         Field{"dtype", &SpecText::dtype, true},
    Field{"table", &SpecText::table, true}, Field{"target", &SpecText::target, true},
    Field{"model", &SpecText::model, true}, Field{"tp", &SpecText::tp, true},
};

std::unexpected<Error> refuse(std::size_t entry, std::string_view what) {
  return std::unexpected(
      Error{ErrorCode::invalid_argument, fmt::format("manifest entry {}: {}", entry, what), {}});
}

// A JSON value as it would be written on the command line.
Result<std::string> value_text(std::size_t entry, const Field& field, const json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_number_integer()) return value.dump();
  if (value.is_array() && field.takes_list && !value.empty()) {
    std::string text;
    for (const json& item : value) {
      if (item.is_array()) return refuse(entry, fmt::format("{}: lists do not nest", field.name));
      const auto part = value_text(entry, field, item);
      if (!part) return part;
      text += (text.empty() ? "" : ",") + *part;
    }
    return text;
  }
  return refuse(entry, fmt::format("{}: must be a whole number or a string{}", field.name,
                                   field.takes_list ? ", or an array of them" : ""));
}

/// A schedule with the field names that `--json` and recordings use.
Result<ScheduleOverride> read_schedule(std::size_t entry, const json& object) {
  ScheduleOverride schedule;
  const std::map<std::string_view, std::optional<int>*> numbers{
      {"tile_rows", &schedule.tile_rows},
      {"tile_tokens", &schedule.tile_tokens},
      {"warps", &schedule.warps},
      {"stages", &schedule.stages},
      {"blocks_per_multiprocessor", &schedule.blocks_per_multiprocessor}};
  if (!object.is_object()) return refuse(entry, "schedule: must be an object such as {\"warps\": 8}");
  for (const auto& [name, value] : object.items()) {
    const auto number = numbers.find(name);
    if (number != numbers.end() && value.is_number_integer() && value >= 0 && value <= 1 << 20) {
      *number->second = value.get<int>();
    } else if (name == "weights" && value.is_string()) {
      schedule.weights = value.get<std::string>();
    } else if (name == "dependent_launch" && value.is_boolean()) {
      schedule.dependent_launch = value.get<bool>() ? "on" : "off";
    } else {
      return refuse(entry,
                    fmt::format("schedule: '{}' is not known or not of its type; allowed: whole numbers "
                                "tile_rows, tile_tokens, warps, stages, blocks_per_multiprocessor, the name "
                                "weights, true or false dependent_launch",
                                name));
    }
  }
  return schedule;
}

Result<ManifestEntry> read_entry(std::size_t entry, const json& object, ManifestEntry result) {
  if (!object.is_object()) return refuse(entry, "must be an object such as {\"n\": 4096, \"k\": 4096}");
  for (const auto& [name, value] : object.items()) {
    if (name == "schedule") {
      auto schedule = read_schedule(entry, value);
      if (!schedule) return std::unexpected(schedule.error());
      result.schedule = *std::move(schedule);
      continue;
    }
    const auto* field = std::ranges::find(kFields, name, &Field::name);
    if (field == kFields.end()) {
      return refuse(entry, fmt::format("'{}' is not known; allowed: bits, group, n, k, m, dtype, table, "
                                       "target, model, tp, schedule",
                                       name));
    }
    const auto value_as_text = value_text(entry, *field, value);
    if (!value_as_text) return std::unexpected(value_as_text.error());
    result.text.*field->text = *value_as_text;
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
