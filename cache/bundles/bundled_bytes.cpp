#include "cache/bundles/bundled_bytes.h"

#include <llvm/ADT/ArrayRef.h>
#include <llvm/ADT/StringExtras.h>
#include <llvm/Support/SHA256.h>
#include <unistd.h>

#include <cerrno>
#include <nlohmann/json.hpp>

namespace lutsmith::cache {

using Json = nlohmann::json;

std::string digest_of(std::span<const std::byte> bytes) {
  const llvm::ArrayRef raw(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
  return llvm::toHex(llvm::SHA256::hash(raw), /*LowerCase=*/true);
}

bool belongs_to(const Entry& entry, const Key& key) {
  // Keeps the members at the top only, so that what is nested below costs nothing.
  const auto keep = [](int depth, Json::parse_event_t event, const Json& /*parsed*/) {
    return depth == 0 ||
           (depth == 1 && (event == Json::parse_event_t::key || event == Json::parse_event_t::value));
  };
  const Json manifest = Json::parse(entry.manifest, keep, /*allow_exceptions=*/false);
  if (!manifest.is_object()) return false;
  const auto found = manifest.find("key");
  return found != manifest.end() && *found == key.hex();
}

Result<std::size_t> read_at(const core::Descriptor& file, std::uint64_t offset, std::span<std::byte> bytes,
                            const std::filesystem::path& path) {
  std::size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t count =
        pread(file.number(), bytes.data() + done, bytes.size() - done, static_cast<off_t>(offset + done));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return std::unexpected(core::system_error(errno, "read", path));
    if (count == 0) break;
    done += static_cast<std::size_t>(count);
  }
  return done;
}

}  // namespace lutsmith::cache
