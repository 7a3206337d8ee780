#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cache/bundles/signing.h"
#include "cache/entry.h"
#include "cache/key.h"
#include "lutsmith/error.h"

namespace lutsmith::cache {

// Many entries as one file, for machines without a network. Numbers are unsigned, lowest byte first.
//
//   bundle    = magic version index signature entries
//   magic     = "LUTSBNDL"                            8 bytes
//   version   = number                                4 bytes, 1 here
//   index     = length text                           4 bytes, then at most kMaxBundleIndexBytes of JSON
//   signature = length bytes                          4 bytes, then none, or the 64 of Ed25519 over all
//                                                     from the magic to the end of the index
//   entries   = entry entry ...                       as in entry.h, in the index's order, to the end
//
//   {"schema":1,
//    "created":"2025-01-31T23:59:59Z",                in UTC
//    "signer":"...",                                  the key's fingerprint; empty without signature
//    "entries":[{"key":"...","bytes":1234,"sha256":"..."},...]}      by rising key, none twice
//
// The digests carry the signature over to the entries. Keys, fingerprints and digests are 64 lower-case
// hexadecimal digits. There are no other members, and none is left out.

inline constexpr std::uint32_t kBundleVersion = 1;
inline constexpr std::size_t kMaxBundleIndexBytes = std::size_t{64} << 20;
/// Magic, version and the index's length.
inline constexpr std::size_t kBundleStartBytes = 8 + 4 + 4;

/// An entry in a bundle's index.
struct BundledEntry {
  Key key;
  std::uint64_t bytes = 0;  ///< as encoded, 1 to kMaxEntryBytes
  std::string sha256;       ///< of the encoded bytes

  friend bool operator==(const BundledEntry&, const BundledEntry&) = default;
};

struct BundleIndex {
  std::string created;  ///< "2025-01-31T23:59:59Z"
  std::string signer;   ///< fingerprint, or empty
  std::vector<BundledEntry> entries;

  friend bool operator==(const BundleIndex&, const BundleIndex&) = default;
};

/// What stands before the entries, as views of the bytes it was read from.
struct BundleHead {
  std::span<const std::byte> covered;  ///< what a signature is over
  std::string_view index;
  std::optional<Signature> signature;
  std::size_t bytes = 0;  ///< where the entries begin
};

/// How many bytes the head has at most, from the first kBundleStartBytes of a bundle: what has to be read for
/// parse_bundle_head. Errors: unsupported for a newer version, corrupt_data for what is no bundle.
Result<std::size_t> bundle_head_bytes(std::span<const std::byte> start);

/// `bytes` may go on behind the head, but for that hold all of it. Does not look into the index. Errors as
/// of bundle_head_bytes, and corrupt_data where the head is cut off.
Result<BundleHead> parse_bundle_head(std::span<const std::byte> bytes);

/// Needs memory in proportion to the text, however deeply it is nested. Errors: corrupt_data where it is not
/// as the grammar says, unsupported for a newer schema. Messages never quote the text.
Result<BundleIndex> parse_bundle_index(std::string_view json);

/// The head of a bundle, signed where there is a signer, whose fingerprint goes into the index. Errors:
/// invalid_argument where there are too many entries for one bundle, and those of signing.
Result<std::vector<std::byte>> write_bundle_head(const BundleIndex& index, const SigningKey* signer);

}  // namespace lutsmith::cache
