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

cache::OtherEntry to_entry(const Document& document, const cache::Key& key) {
  const Gpu& gpu = document.gpu();
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

Result<Document> read_payload(const cache::Entry& entry) {
  Result<Document> document =
      parse_document({reinterpret_cast<const char*>(entry.payload.data()), entry.payload.size()});
  if (!document) {
    document.error().message =
        fmt::format("a document of tuned choices cannot be used: {}", document.error().message);
  }
  return document;
}

}  // namespace

cache::OtherEntry to_entry(const Document& document) { return to_entry(document, key_of(document.gpu())); }

Result<std::optional<Document>> read_entry(const cache::Key& key, const cache::Entry& entry) {
  if (!holds_document(entry)) return std::nullopt;
  Result<Document> document = read_payload(entry);
  if (!document) return failure(document);
  if (key_of(document->gpu()) != key) {
    return corrupt(fmt::format("a document of tuned choices is of {}, which its key does not say",
                               describe(document->gpu())));
  }
  return *std::move(document);
}

cache::Key key_of(const Gpu& gpu, const KernelSpec& spec) {
  return cache::Key::of(
      {.source = fmt::format("lutsmith tuned choice, schema {}: {}", kSchema, name_in_document(spec)),
       .options = gpu.name,
       .compiler = fmt::format("{} multiprocessors", gpu.multiprocessors),
       .target = gpu.target.name()});
}

cache::OtherEntry to_entry(const Gpu& gpu, const Entry& choice) {
  Document document(gpu);
  document.put(choice);
  return to_entry(document, key_of(gpu, choice.spec));
}

Result<Entry> read_entry(const Gpu& gpu, const KernelSpec& spec, const cache::Entry& entry) {
  if (!holds_document(entry)) return corrupt("it is no document of tuned choices");
  Result<Document> document = read_payload(entry);
  if (!document) return failure(document);
  if (document->gpu() != gpu) {
    return corrupt(
        fmt::format("it is of {}, and was asked for {}", describe(document->gpu()), describe(gpu)));
  }
  if (const Entry* found = document->find(spec)) return *found;
  if (document->unread() == 0) return corrupt("it has no choice for the spec");
  return std::unexpected(Error{ErrorCode::unsupported,
                               "this version of lutsmith cannot read it; it may be a later version's", ""});
}

}  // namespace lutsmith::choices
