#include "cache/entry.h"

#include <fmt/format.h>
#include <llvm/ADT/ArrayRef.h>
#include <llvm/Support/Endian.h>
#include <llvm/Support/SHA256.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <string_view>

namespace lutsmith::cache {
namespace {

constexpr std::string_view kMagic = "LUTSMITH";
constexpr std::size_t kVersionOffset = kMagic.size();
constexpr std::size_t kManifestLengthOffset = kVersionOffset + 4;
constexpr std::size_t kManifestOffset = kManifestLengthOffset + 4;
constexpr std::size_t kPayloadLengthBytes = 8;
constexpr std::size_t kDigestBytes = 32;
static_assert(kManifestOffset + kPayloadLengthBytes + kDigestBytes == kEntryOverheadBytes);

std::array<std::uint8_t, kDigestBytes> digest_of(std::span<const std::byte> bytes) {
  return llvm::SHA256::hash({reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()});
}

std::unexpected<Error> corrupt(std::string message) {
  return std::unexpected(Error{ErrorCode::corrupt_data, std::move(message), ""});
}

bool digest_matches(std::span<const std::byte> bytes) {
  const auto stored = bytes.last(kDigestBytes);
  const auto expected = digest_of(bytes.first(bytes.size() - kDigestBytes));
  return std::memcmp(stored.data(), expected.data(), kDigestBytes) == 0;
}

}  // namespace

Result<std::vector<std::byte>> encode(const Entry& entry) {
  if (entry.manifest.size() > kMaxManifestBytes || entry.payload.size() > kMaxPayloadBytes) {
    return std::unexpected(
        Error{ErrorCode::invalid_argument,
              fmt::format("a cache entry with {} bytes of manifest and {} of payload is too long; at most {} "
                          "and {} are kept",
                          entry.manifest.size(), entry.payload.size(), kMaxManifestBytes, kMaxPayloadBytes),
              ""});
  }
  std::vector<std::byte> bytes(kEntryOverheadBytes + entry.manifest.size() + entry.payload.size());
  std::byte* at = bytes.data();
  const auto append = [&at](const void* from, std::size_t count) {
    if (count > 0) std::memcpy(at, from, count);
    at += count;
  };
  append(kMagic.data(), kMagic.size());
  llvm::support::endian::write32le(at, kEntryVersion);
  at += 4;
  llvm::support::endian::write32le(at, static_cast<std::uint32_t>(entry.manifest.size()));
  at += 4;
  append(entry.manifest.data(), entry.manifest.size());
  llvm::support::endian::write64le(at, entry.payload.size());
  at += kPayloadLengthBytes;
  append(entry.payload.data(), entry.payload.size());
  const auto digest = digest_of(std::span(bytes).first(bytes.size() - kDigestBytes));
  append(digest.data(), digest.size());
  return bytes;
}

Result<Entry> decode(std::span<const std::byte> bytes) {
  if (bytes.size() < kEntryOverheadBytes) {
    return corrupt(
        fmt::format("{} bytes are fewer than the {} of an empty entry", bytes.size(), kEntryOverheadBytes));
  }
  if (std::memcmp(bytes.data(), kMagic.data(), kMagic.size()) != 0) {
    return corrupt("it does not begin as an entry does");
  }
  if (!digest_matches(bytes)) return corrupt("its digest does not match its contents");

  const std::uint32_t version = llvm::support::endian::read32le(bytes.data() + kVersionOffset);
  if (version > kEntryVersion) {
    return std::unexpected(
        Error{ErrorCode::unsupported,
              fmt::format("the entry has version {}, this library reads {}", version, kEntryVersion), ""});
  }
  if (version != kEntryVersion) return corrupt(fmt::format("version {} was never written", version));

  // Lengths are compared with what is left, never added first, so that no sum can wrap around.
  std::span<const std::byte> rest = bytes.subspan(kManifestOffset);
  rest = rest.first(rest.size() - kDigestBytes);
  const std::size_t manifest_bytes = llvm::support::endian::read32le(bytes.data() + kManifestLengthOffset);
  if (manifest_bytes > kMaxManifestBytes || manifest_bytes > rest.size() - kPayloadLengthBytes) {
    return corrupt(fmt::format("a manifest of {} bytes does not fit", manifest_bytes));
  }
  Entry entry;
  entry.manifest.assign(reinterpret_cast<const char*>(rest.data()), manifest_bytes);
  rest = rest.subspan(manifest_bytes);
  const std::uint64_t payload_bytes = llvm::support::endian::read64le(rest.data());
  rest = rest.subspan(kPayloadLengthBytes);
  if (payload_bytes > kMaxPayloadBytes || payload_bytes != rest.size()) {
    return corrupt(
        fmt::format("a payload of {} bytes does not fill the {} there are", payload_bytes, rest.size()));
  }
  entry.payload.assign(rest.begin(), rest.end());
  return entry;
}

}  // namespace lutsmith::cache
