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
//   entry    = magic version manifest encoding size payload digest
//   magic    = "LUTSMITH"                             8 bytes
//   version  = number                                 4 bytes, 2 here
//   manifest = length text                            4 bytes, then at most kMaxManifestBytes
//   encoding = number                                 4 bytes: 0 as it is, 1 one frame of Zstandard
//   size     = number                                 8 bytes: of the payload itself, <= kMaxPayloadBytes
//   payload  = length bytes                           8 bytes, then the payload as encoded
//   digest   = SHA-256 of everything before it        32 bytes, the last of the file
//
// Every version begins with magic and version and ends with such a digest, so that a reader can tell an
// entry of the future (left alone) or of the past (replaced) from a damaged one (put aside and replaced).

inline constexpr std::uint32_t kEntryVersion = 2;
inline constexpr std::size_t kMaxManifestBytes = std::size_t{1} << 20;
inline constexpr std::size_t kMaxPayloadBytes = std::size_t{64} << 20;
inline constexpr std::size_t kEntryOverheadBytes = 8 + 4 + 4 + 4 + 8 + 8 + 32;
inline constexpr std::size_t kMaxEntryBytes = kEntryOverheadBytes + kMaxManifestBytes + kMaxPayloadBytes;

/// Packs the payload where that makes it smaller by an eighth or more. Errors: invalid_argument where
/// manifest or payload is longer than allowed.
Result<std::vector<std::byte>> encode(const Entry& entry);

/// Allocates no more than the bytes given and kMaxPayloadBytes. Errors: unsupported for an intact entry of a
/// newer version, not_found for one of an older version, corrupt_data for everything else that `encode`
/// cannot have written.
Result<Entry> decode(std::span<const std::byte> bytes);

/// The manifest of bytes that `decode` refuses, where they still hold one. It may be damaged too: a hint at
/// what was there, nothing to rely on. Empty where there is none.
std::string salvage_manifest(std::span<const std::byte> bytes);

}  // namespace lutsmith::cache
