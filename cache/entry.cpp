#include "cache/entry.h"

#include <fmt/format.h>
#include <llvm/ADT/ArrayRef.h>
#include <llvm/Support/Endian.h>
#include <llvm/Support/SHA256.h>
#include <zstd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <string_view>

#include "core/result.h"

namespace lutsmith::cache {
namespace {

constexpr std::string_view kMagic = "LUTSMITH";
constexpr std::size_t kVersionOffset = kMagic.size();
constexpr std::size_t kManifestOffset = kVersionOffset + 4 + 4;
constexpr std::size_t kPayloadHeadBytes = 4 + 8 + 8;
constexpr std::size_t kDigestBytes = 32;
static_assert(kManifestOffset + kPayloadHeadBytes + kDigestBytes == kEntryOverheadBytes);

enum class Encoding : std::uint32_t { plain = 0, zstd = 1 };
// Level 3 halves a cubin in a fraction of a millisecond; higher ones take several for a few percent more.
constexpr int kCompressionLevel = 3;

std::array<std::uint8_t, kDigestBytes> digest_of(std::span<const std::byte> bytes) {
  return llvm::SHA256::hash({reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()});
}

bool digest_matches(std::span<const std::byte> bytes) {
  const auto stored = bytes.last(kDigestBytes);
  const auto expected = digest_of(bytes.first(bytes.size() - kDigestBytes));
  return std::memcmp(stored.data(), expected.data(), kDigestBytes) == 0;
}

/// A payload as it is stored.
struct StoredPayload {
  Encoding encoding = Encoding::plain;
  std::vector<std::byte> packed;     ///< where it is not plain
  std::span<const std::byte> bytes;  ///< what is stored
};

StoredPayload pack(std::span<const std::byte> payload) {
  StoredPayload stored;
  stored.packed.resize(payload.size() - payload.size() / 8);
  const std::size_t size = ZSTD_compress(stored.packed.data(), stored.packed.size(), payload.data(),
                                         payload.size(), kCompressionLevel);
  if (ZSTD_isError(size) != 0) {  // it does not fit: not worth it
    stored.bytes = payload;
    return stored;
  }
  stored.encoding = Encoding::zstd;
  stored.bytes = std::span<const std::byte>(stored.packed).first(size);
  return stored;
}

Result<std::vector<std::byte>> unpack(std::span<const std::byte> stored, std::uint32_t encoding,
                                      std::uint64_t size) {
  if (size > kMaxPayloadBytes) return corrupt(fmt::format("a payload of {} bytes is too long", size));
  if (encoding == static_cast<std::uint32_t>(Encoding::plain)) {
    if (size != stored.size()) {
      return corrupt(
          fmt::format("a payload of {} bytes does not fill the {} there are", size, stored.size()));
    }
    return std::vector<std::byte>(stored.begin(), stored.end());
  }
  if (encoding != static_cast<std::uint32_t>(Encoding::zstd)) {
    return corrupt(fmt::format("the payload's encoding {} is not known", encoding));
  }
  // What the frame says of itself first, so that a false size allocates nothing.
  if (ZSTD_getFrameContentSize(stored.data(), stored.size()) != size) {
    return corrupt("the packed payload has another size than stated");
  }
  // More frames would be unpacked too, those that hold nothing without a trace.
  if (ZSTD_findFrameCompressedSize(stored.data(), stored.size()) != stored.size()) {
    return corrupt("the packed payload is not one frame");
  }
  std::vector<std::byte> payload(size);
  if (ZSTD_decompress(payload.data(), size, stored.data(), stored.size()) != size) {
    return corrupt("the payload cannot be unpacked");
  }
  return payload;
}

/// Takes numbers and texts off the front of bytes that were checked to be long enough.
class Reader {
 public:
  explicit Reader(std::span<const std::byte> bytes) : rest_(bytes) {}

  std::uint32_t number32() { return llvm::support::endian::read32le(take(4).data()); }
  std::uint64_t number64() { return llvm::support::endian::read64le(take(8).data()); }
  std::span<const std::byte> take(std::size_t count) {
    const auto taken = rest_.first(count);
    rest_ = rest_.subspan(count);
    return taken;
  }
  std::size_t left() const { return rest_.size(); }

 private:
  std::span<const std::byte> rest_;
};

class Writer {
 public:
  explicit Writer(std::size_t capacity) { bytes_.reserve(capacity); }

  void number32(std::uint32_t value) {
    std::array<std::byte, 4> digits{};
    llvm::support::endian::write32le(digits.data(), value);
    append(digits);
  }
  void number64(std::uint64_t value) {
    std::array<std::byte, 8> digits{};
    llvm::support::endian::write64le(digits.data(), value);
    append(digits);
  }
  void append(std::span<const std::byte> bytes) { bytes_.insert(bytes_.end(), bytes.begin(), bytes.end()); }
  std::vector<std::byte> finish() {
    const auto digest = digest_of(bytes_);
    append(std::as_bytes(std::span(digest)));
    return std::move(bytes_);
  }

 private:
  std::vector<std::byte> bytes_;
};

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
  const StoredPayload stored = pack(entry.payload);
  Writer writer(kEntryOverheadBytes + entry.manifest.size() + stored.bytes.size());
  writer.append(std::as_bytes(std::span(kMagic)));
  writer.number32(kEntryVersion);
  writer.number32(static_cast<std::uint32_t>(entry.manifest.size()));
  writer.append(std::as_bytes(std::span(entry.manifest)));
  writer.number32(static_cast<std::uint32_t>(stored.encoding));
  writer.number64(entry.payload.size());
  writer.number64(stored.bytes.size());
  writer.append(stored.bytes);
  return writer.finish();
}

Result<Entry> decode(std::span<const std::byte> bytes) {
  constexpr std::size_t kShortest = kVersionOffset + 4 + kDigestBytes;  // of any version
  if (bytes.size() < kShortest) {
    return corrupt(fmt::format("{} bytes are fewer than any entry has", bytes.size()));
  }
  if (std::memcmp(bytes.data(), kMagic.data(), kMagic.size()) != 0) {
    return corrupt("it does not begin as an entry does");
  }
  if (!digest_matches(bytes)) return corrupt("its digest does not match its contents");

  Reader reader(bytes.first(bytes.size() - kDigestBytes).subspan(kVersionOffset));
  const std::uint32_t version = reader.number32();
  if (version != kEntryVersion) {
    return std::unexpected(
        Error{version > kEntryVersion ? ErrorCode::unsupported : ErrorCode::not_found,
              fmt::format("the entry has version {}, this library reads {}", version, kEntryVersion), ""});
  }
  if (bytes.size() < kEntryOverheadBytes) {
    return corrupt(
        fmt::format("{} bytes are fewer than the {} of an empty entry", bytes.size(), kEntryOverheadBytes));
  }
  // Lengths are compared with what is left, never added first, so that no sum can wrap around.
  const std::size_t manifest_bytes = reader.number32();
  if (manifest_bytes > kMaxManifestBytes || manifest_bytes > reader.left() - kPayloadHeadBytes) {
    return corrupt(fmt::format("a manifest of {} bytes does not fit", manifest_bytes));
  }
  const auto manifest = reader.take(manifest_bytes);
  const std::uint32_t encoding = reader.number32();
  const std::uint64_t size = reader.number64();
  const std::uint64_t stored_bytes = reader.number64();
  if (stored_bytes != reader.left()) {
    return corrupt(fmt::format("a payload stored in {} bytes does not fill the {} there are", stored_bytes,
                               reader.left()));
  }
  Result<std::vector<std::byte>> payload = unpack(reader.take(reader.left()), encoding, size);
  if (!payload) return std::unexpected(std::move(payload.error()));
  return Entry{.manifest = std::string(reinterpret_cast<const char*>(manifest.data()), manifest.size()),
               .payload = *std::move(payload)};
}

std::string salvage_manifest(std::span<const std::byte> bytes) {
  if (bytes.size() < kManifestOffset || std::memcmp(bytes.data(), kMagic.data(), kMagic.size()) != 0)
    return {};
  Reader reader(bytes.subspan(kVersionOffset + 4));
  const std::size_t length = reader.number32();
  if (length > kMaxManifestBytes || length > reader.left()) return {};
  const auto manifest = reader.take(length);
  return {reinterpret_cast<const char*>(manifest.data()), manifest.size()};
}

}  // namespace lutsmith::cache
