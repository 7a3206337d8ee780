#include "runtime/manifest.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "runtime/spec_json.h"

namespace lutsmith {
namespace {

using Json = nlohmann::json;

constexpr int kManifestSchema = 1;

/// A count that is there, whole, and not negative.
bool read_count(const Json& object, const char* name, int& value) {
  const auto found = object.find(name);
  if (found == object.end() || !found->is_number_unsigned()) return false;
  const auto number = found->get<std::uint64_t>();
  if (number > 1U << 30U) return false;
  value = static_cast<int>(number);
  return true;
}

bool has(const Json& object, const char* name, const Json& value) {
  const auto found = object.find(name);
  return found != object.end() && *found == value;
}

}  // namespace

std::string write_manifest(const KernelSpec& spec, const Schedule& schedule, const Artifact& artifact,
                           std::string_view compiler) {
  const Json manifest = {
      {"schema", kManifestSchema},           {"key", artifact.key},
      {"spec", spec_json<Json>(spec)},       {"schedule", schedule_json<Json>(schedule)},
      {"kernel", artifact.kernel_name},      {"launch", launch_json<Json>(artifact.launch)},
      {"registers", artifact.registers},     {"static_shared_bytes", artifact.static_shared_bytes},
      {"spill_bytes", artifact.spill_bytes}, {"compiler", compiler}};
  return manifest.dump(2, ' ', /*ensure_ascii=*/true, Json::error_handler_t::replace);
}

Result<Artifact> read_manifest(std::string_view manifest, const Artifact& expected) {
  const auto wrong = [](const char* reason) {
    return std::unexpected(
        Error{ErrorCode::corrupt_data, fmt::format("the manifest of a cache entry {}", reason), ""});
  };
  const Json parsed = Json::parse(manifest, nullptr, /*allow_exceptions=*/false);
  if (!parsed.is_object()) return wrong("is no JSON object");
  if (!has(parsed, "schema", kManifestSchema)) return wrong("has an unknown schema");
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

}  // namespace lutsmith
