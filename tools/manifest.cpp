#include "manifest.h"

#include <fmt/format.h>

#include <array>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

namespace lutsmith::tools {
namespace {

using nlohmann::json;

struct Field {
  std::string_view name;
  std::string SpecText::* text;
  bool takes_list;
};

constexpr std::array kFields{
    Field{"bits", &SpecText::bits, true},    Field{"group", &SpecText::group, true},
    Field{"n", &SpecText::n, false},         Field{"k", &SpecText::k, false},
    Field{"m", &SpecText::m, true},          Field{"dtype", &SpecText::dtype, true},
    Field{"table", &SpecText::table, true},  Field{"target", &SpecText::target, true},
    Field{"model", &SpecText::model, false}, Field{"tp", &SpecText::tp, true},
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

Result<SpecText> read_entry(std::size_t entry, const json& object, SpecText text) {
  if (!object.is_object()) return refuse(entry, "must be an object such as {\"n\": 4096, \"k\": 4096}");
  for (const auto& [name, value] : object.items()) {
    const auto* field = std::ranges::find(kFields, name, &Field::name);
    if (field == kFields.end()) {
      return refuse(entry, fmt::format("'{}' is not known; allowed: bits, group, n, k, m, dtype, table, "
                                       "target, model, tp",
                                       name));
    }
    const auto value_as_text = value_text(entry, *field, value);
    if (!value_as_text) return std::unexpected(value_as_text.error());
    text.*field->text = *value_as_text;
  }
  return text;
}

}  // namespace

Result<std::vector<SpecText>> read_manifest(const std::filesystem::path& path, const SpecText& defaults) {
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    return std::unexpected(
        Error{ErrorCode::not_found, fmt::format("manifest '{}' cannot be read", path.string()), {}});
  }
  const std::string text(std::istreambuf_iterator<char>(file), {});
  const json document = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (document.is_discarded() || !document.is_array()) {
    return std::unexpected(Error{ErrorCode::invalid_argument,
                                 fmt::format("manifest '{}' is not a JSON array of specs", path.string()),
                                 "see `lutsmith warm --help` for an example"});
  }
  std::vector<SpecText> result;
  for (std::size_t entry = 0; entry < document.size(); ++entry) {
    auto spec = read_entry(entry, document[entry], defaults);
    if (!spec) return std::unexpected(spec.error());
    result.push_back(std::move(*spec));
  }
  return result;
}

}  // namespace lutsmith::tools
