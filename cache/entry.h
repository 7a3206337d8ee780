#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "lutsmith/error.h"

namespace lutsmith::cache {

/// What is kept under a key: a description in JSON, and bytes that mean nothing to the cache.
struct Entry {
  std::string manifest;
  std::vector<std::byte> payload;

  friend bool operator==(const Entry&, const Entry&) = default;
};

// An entry as one file, or as the body of one message. Numbers are unsigned, lowest byte first.
//
//   entry    = magic version manifest payload digest
//   magic    = "LUTSMITH"                             8 bytes
//   version  = number                                 4 bytes, 1 here
//   manifest = length text                            4 bytes, then at most kMaxManifestBytes
//   payload  = length bytes                           8 bytes, then at most kMaxPayloadBytes
//   digest   = SHA-256 of everything before it        32 bytes, the last of the file
//
// Every later version begins with magic and version and ends with such a digest, so that an older
// reader can tell an entry of the future (left alone) from a damaged one (replaced).

inline constexpr std::uint32_t kEntryVersion = 1;
inline constexpr std::size_t kMaxManifestBytes = std::size_t{1} << 20;
inline constexpr std::size_t kMaxPayloadBytes = std::size_t{64} << 20;
inline constexpr std::size_t kEntryOverheadBytes = 8 + 4 + 4 + 8 + 32;
inline constexpr std::size_t kMaxEntryBytes = kEntryOverheadBytes + kMaxManifestBytes + kMaxPayloadBytes;

/// Errors: invalid_argument where manifest or payload is longer than allowed.
Result<std::vector<std::byte>> encode(const Entry& entry);

/// Errors: unsupported for an intact entry of a newer version, corrupt_data for everything else that
/// `encode` cannot have written.
Result<Entry> decode(std::span<const std::byte> bytes);

}  // namespace lutsmith::cache
