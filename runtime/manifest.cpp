#include "runtime/manifest.h"

#include <fmt/format.h>
#include <llvm/ADT/ArrayRef.h>
#include <llvm/ADT/StringExtras.h>
#include <llvm/Support/SHA256.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "cache/key.h"
#include "core/field_json.h"
#include "core/result.h"
#include "runtime/recipe_json.h"

namespace lutsmith {
namespace {

using Json = nlohmann::json;

constexpr std::uint64_t kManifestSchema = 2;

/// A count that is there, whole, and not negative.
bool read_count(const Json& object, const char* name, int& value) {
  const auto found = object.find(name);
  if (found == object.end() || !found->is_number_unsigned()) return false;
  const auto number = found->get<std::uint64_t>();
  if (number > 1U << 30U) return false;
  value = static_cast<int>(number);
  return true;
}

bool read_text(const Json& object, const char* name, std::string& value) {
  const auto found = object.find(name);
  if (found == object.end() || !found->is_string()) return false;
  value = found->get<std::string>();
  return true;
}

/// Text that may be shown on a terminal: whoever wrote an entry must not be able to write there.
bool is_plain(std::string_view text, std::string_view also = "") {
  return std::ranges::all_of(text, [also](char c) { return (c >= ' ' && c <= '~') || also.contains(c); });
}

std::unexpected<Error> wrong(std::string_view reason) {
  return std::unexpected(
      Error{ErrorCode::corrupt_data, fmt::format("the manifest of a cache entry {}", reason), ""});
}

/// Whether a manifest is one this version reads. Errors: unsupported for a newer one, corrupt_data.
Result<void> check_schema(const Json& manifest) {
  if (!manifest.is_object()) return wrong("is no JSON object");
  const auto schema = manifest.find("schema");
  if (schema == manifest.end() || !schema->is_number_unsigned()) return wrong("has no schema");
  const auto number = schema->get<std::uint64_t>();
  if (number == kManifestSchema) return {};
  if (number < kManifestSchema) return wrong("has an older schema");
  return std::unexpected(
      Error{ErrorCode::unsupported,
            fmt::format("the entry's schema is {}, this library reads {}", number, kManifestSchema), ""});
}

bool has(const Json& object, const char* name, const Json& value) {
  const auto found = object.find(name);
  return found != object.end() && *found == value;
}

}  // namespace

std::string write_manifest(const KernelSpec& spec, const Schedule& schedule, const Artifact& artifact,
                           const Provenance& provenance) {
  const llvm::ArrayRef cubin(reinterpret_cast<const std::uint8_t*>(artifact.cubin.data()),
                             artifact.cubin.size());
  const Json manifest = {{"schema", kManifestSchema},
                         {"key", artifact.key},
                         {"spec", spec_json<Json>(spec)},
                         {"schedule", schedule_json<Json>(schedule)},
                         {"kernel", artifact.kernel_name},
                         {"launch", launch_json<Json>(artifact.launch)},
                         {"registers", artifact.registers},
                         {"static_shared_bytes", artifact.static_shared_bytes},
                         {"spill_bytes", artifact.spill_bytes},
                         {"compiler", provenance.compiler},
                         {"options", provenance.options},
                         {"source_bytes", provenance.source_bytes},
                         {"cubin_bytes", artifact.cubin.size()},
                         {"cubin_sha256", llvm::toHex(llvm::SHA256::hash(cubin), /*LowerCase=*/true)}};
  return manifest.dump(2, ' ', /*ensure_ascii=*/true, Json::error_handler_t::replace);
}

Result<Artifact> read_manifest(std::string_view manifest, const Artifact& expected) {
  const Json parsed = Json::parse(manifest, nullptr, /*allow_exceptions=*/false);
  if (Result<void> known = check_schema(parsed); !known) return std::unexpected(known.error());
  if (!has(parsed, "key", expected.key)) return wrong("belongs to another key");
  if (!has(parsed, "kernel", expected.kernel_name) ||
      !has(parsed, "launch", launch_json<Json>(expected.launch))) {
    return wrong("describes another kernel");
  }
  Artifact artifact = expected;
  if (!read_count(parsed, "registers", artifact.registers) ||
      !read_count(parsed, "static_shared_bytes", artifact.static_shared_bytes) ||
      !read_count(parsed, "spill_bytes", artifact.spill_bytes)) {
    return wrong("lacks the kernel's registers, shared memory or spills");
  }
  return artifact;
}

Result<Description> read_description(std::string_view manifest) {
  const Json parsed = Json::parse(manifest, nullptr, /*allow_exceptions=*/false);
  if (Result<void> known = check_schema(parsed); !known) return std::unexpected(known.error());
  Description description;
  if (!read_text(parsed, "key", description.key) || !read_text(parsed, "kernel", description.kernel_name) ||
      !read_text(parsed, "compiler", description.provenance.compiler) ||
      !read_text(parsed, "options", description.provenance.options)) {
    return wrong("lacks the kernel's key, name, compiler or options");
  }
  if (!is_plain(description.kernel_name) || !is_plain(description.provenance.compiler) ||
      !is_plain(description.provenance.options, "\n")) {
    return wrong("names the kernel, compiler or options with characters that none has");
  }
  if (!parsed.contains("spec") || !read_fields(parsed["spec"], description.spec)) {
    return wrong("describes no spec");
  }
  if (Result<void> valid = validate(description.spec); !valid) return wrong(valid.error().message);
  if (!parsed.contains("schedule")) return wrong("describes no schedule");
  Result<Schedule> schedule = read_schedule(parsed["schedule"]);
  if (!schedule) {
    Error error = schedule.error();
    error.message = fmt::format("the manifest of a cache entry {}", error.message);
    return std::unexpected(std::move(error));
  }
  description.schedule = *schedule;
  int source_bytes = 0;
  if (!read_count(parsed, "source_bytes", source_bytes)) return wrong("lacks the size of the source");
  description.provenance.source_bytes = static_cast<std::size_t>(source_bytes);
  return description;
}

Result<Source> source_of(const Description& description) {
  Result<Source> source = render(description.spec, description.schedule);
  if (!source) return source;
  const cache::Key key = cache::Key::of({.source = source->text,
                                         .options = description.provenance.options,
                                         .compiler = description.provenance.compiler,
                                         .target = description.spec.target.name()});
  if (key.hex() == description.key) return source;
  return std::unexpected(
      Error{ErrorCode::unsupported,
            fmt::format("{} was made by another version of lutsmith, whose source is not kept; this version "
                        "would write another",
                        describe(description.spec)),
            ""});
}

}  // namespace lutsmith
