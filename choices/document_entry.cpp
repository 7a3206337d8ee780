#include "choices/document_entry.h"

#include <fmt/format.h>

#include <cstddef>
#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>

#include "core/result.h"

namespace lutsmith::choices {
namespace {

using Json = nlohmann::json;

constexpr const char* kMember = "tuned_choices";

cache::Key key_of(const Gpu& gpu) {
  return cache::Key::of({.source = fmt::format("lutsmith tuned choices, schema {}", kSchema),
                         .options = gpu.name,
                         .compiler = fmt::format("{} multiprocessors", gpu.multiprocessors),
                         .target = gpu.target.name()});
}

bool holds_document(const cache::Entry& entry) {
  // Keeps the members at the top only, so that what is nested below costs nothing.
  bool found = false;
  const auto look = [&found](int depth, Json::parse_event_t event, const Json& parsed) {
    found |= depth == 1 && event == Json::parse_event_t::key && parsed == kMember;
    return depth <= 1;
  };
  const Json manifest = Json::parse(entry.manifest, look, /*allow_exceptions=*/false);
  return manifest.is_object() && found;
}

}  // namespace

cache::OtherEntry to_entry(const Document& document) {
  const Gpu& gpu = document.gpu();
  const cache::Key key = key_of(gpu);
  const Json manifest{
      {"key", key.hex()},
      {"schema", std::numeric_limits<std::uint32_t>::max()},
      {kMember, {{"schema", kSchema}, {"gpu", gpu.name}, {"multiprocessors", gpu.multiprocessors}}}};
  const std::string text = write_document(document);
  const auto payload = std::as_bytes(std::span(text));
  return {.key = key,
          .entry = {.manifest = manifest.dump(-1, ' ', /*ensure_ascii=*/true, Json::error_handler_t::replace),
                    .payload = {payload.begin(), payload.end()}}};
}

Result<std::optional<Document>> read_entry(const cache::Key& key, const cache::Entry& entry) {
  if (!holds_document(entry)) return std::nullopt;
  Result<Document> document =
      parse_document({reinterpret_cast<const char*>(entry.payload.data()), entry.payload.size()});
  if (!document) {
    document.error().message =
        fmt::format("a document of tuned choices cannot be used: {}", document.error().message);
    return failure(document);
  }
  if (key_of(document->gpu()) != key) {
    return corrupt(fmt::format("a document of tuned choices is of {}, which its key does not say",
                               describe(document->gpu())));
  }
  return *std::move(document);
}

}  // namespace lutsmith::choices
