#include "cache/bundles/bundle_format.h"

#include <fmt/format.h>
#include <llvm/Support/Endian.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <nlohmann/json.hpp>

#include "core/result.h"

namespace lutsmith::cache {
namespace {

constexpr std::string_view kMagic = "LUTSBNDL";
constexpr std::uint64_t kIndexSchema = 1;
constexpr std::size_t kLengthBytes = 4;
constexpr std::size_t kSignatureBytes = sizeof(Signature);

std::uint32_t number_at(std::span<const std::byte> bytes, std::size_t offset) {
  return llvm::support::endian::read32le(bytes.data() + offset);
}

void append_number(std::vector<std::byte>& bytes, std::size_t value) {
  std::array<std::byte, 4> digits{};
  llvm::support::endian::write32le(digits.data(), static_cast<std::uint32_t>(value));
  bytes.insert(bytes.end(), digits.begin(), digits.end());
}

bool is_time(std::string_view text) {
  constexpr std::string_view kPattern = "0000-00-00T00:00:00Z";
  return std::ranges::equal(text, kPattern, [](char given, char pattern) {
    return pattern == '0' ? given >= '0' && given <= '9' : given == pattern;
  });
}

bool is_digest(std::string_view text) { return Key::parse(text).has_value(); }

/// Follows the parser through the one shape an index may have and stops it at the first thing that is out
/// of place. No tree is built: a hostile text could make it twenty times as large as itself, or nest it
/// deeply.
class IndexReader final : public nlohmann::json_sax<nlohmann::json> {
 public:
  BundleIndex take() { return std::move(index_); }
  /// Why `sax_parse` returned false.
  Error error() const {
    if (error_) return *error_;
    return Error{ErrorCode::corrupt_data, "the bundle's index is not as an index should be", ""};
  }

  bool start_object(std::size_t /*elements*/) override {
    if (place_ == Place::outside) {
      place_ = Place::index;
    } else if (place_ == Place::entries) {
      place_ = Place::entry;
      entry_ = {};
    } else {
      return wrong("has an object where none belongs");
    }
    return true;
  }

  bool key(std::string& name) override {
    if (place_ == Place::index) return open_member(name, kIndexMembers, seen_);
    return open_member(name, kEntryMembers, entry_.seen);
  }

  bool start_array(std::size_t /*elements*/) override {
    if (place_ != Place::index || member_ != "entries") return wrong("has a list where none belongs");
    place_ = Place::entries;
    return true;
  }

  bool end_array() override {
    place_ = Place::index;
    return true;
  }

  bool end_object() override {
    if (place_ == Place::index) {
      place_ = Place::outside;
      return seen_ == kAllOf<kIndexMembers.size()> || wrong("lacks schema, created, signer or entries");
    }
    place_ = Place::entries;
    if (entry_.seen != kAllOf<kEntryMembers.size()>) return wrong_entry("lacks key, bytes or sha256");
    if (!index_.entries.empty() && index_.entries.back().key >= *entry_.key) {
      return wrong_entry("is there twice or out of order; entries stand by rising key");
    }
    index_.entries.push_back(
        {.key = *std::move(entry_.key), .bytes = entry_.bytes, .sha256 = std::move(entry_.sha256)});
    return true;
  }

  bool number_unsigned(std::uint64_t value) override {
    if (place_ == Place::index && member_ == "schema") {
      if (value == kIndexSchema) return true;
      return fail(value > kIndexSchema ? ErrorCode::unsupported : ErrorCode::corrupt_data,
                  fmt::format("the bundle's index has schema {}, this library reads {}; use a newer one",
                              value, kIndexSchema));
    }
    if (place_ != Place::entry || member_ != "bytes") return wrong("has a number where none belongs");
    if (value == 0 || value > kMaxEntryBytes) {
      return wrong_entry(fmt::format("cannot have {} bytes; an entry has 1 to {}", value, kMaxEntryBytes));
    }
    entry_.bytes = value;
    return true;
  }

  bool string(std::string& text) override {
    if (place_ == Place::entry && member_ == "key") {
      entry_.key = Key::parse(text);
      return entry_.key.has_value() || wrong_entry("has a key that is not 64 lower-case hexadecimal digits");
    }
    if (place_ == Place::entry && member_ == "sha256") {
      entry_.sha256 = text;
      return is_digest(text) || wrong_entry("has a sha256 that is not 64 lower-case hexadecimal digits");
    }
    if (place_ == Place::index && member_ == "created") {
      index_.created = text;
      return is_time(text) || wrong("has a time that is not of the form 2025-01-31T23:59:59Z");
    }
    if (place_ == Place::index && member_ == "signer") {
      index_.signer = text;
      return text.empty() || is_digest(text) ||
             wrong("has a signer that is neither empty nor 64 lower-case hexadecimal digits");
    }
    return wrong("has a text where none belongs");
  }

  bool null() override { return wrong("has a null, and needs none"); }
  bool boolean(bool /*value*/) override { return wrong("has a truth value, and needs none"); }
  bool number_integer(std::int64_t /*value*/) override { return wrong("has a negative number"); }
  bool number_float(double /*value*/, const std::string& /*text*/) override {
    return wrong("has a number that is not whole or is too large");
  }
  bool binary(nlohmann::json::binary_t& /*value*/) override { return wrong("has binary data"); }
  bool parse_error(std::size_t position, const std::string& /*token*/,
                   const nlohmann::detail::exception& /*reason*/) override {
    return wrong(fmt::format("is no JSON from byte {} on", position));
  }

 private:
  enum class Place { outside, index, entries, entry };
  static constexpr std::array<std::string_view, 4> kIndexMembers = {"schema", "created", "signer", "entries"};
  static constexpr std::array<std::string_view, 3> kEntryMembers = {"key", "bytes", "sha256"};
  template <std::size_t kCount>
  static constexpr unsigned kAllOf = (1U << kCount) - 1;

  struct OpenEntry {
    std::optional<Key> key;
    std::uint64_t bytes = 0;
    std::string sha256;
    unsigned seen = 0;
  };

  /// `seen` has a bit for each member met. A member given twice would mean one thing here and another to the
  /// next reader.
  bool open_member(std::string_view name, std::span<const std::string_view> members, unsigned& seen) {
    const auto found = std::ranges::find(members, name);
    if (found == members.end()) return wrong("has a member of unknown name");
    const unsigned bit = 1U << static_cast<unsigned>(found - members.begin());
    if ((seen & bit) != 0) return wrong(fmt::format("has \"{}\" twice", *found));
    seen |= bit;
    member_ = *found;
    return true;
  }

  bool fail(ErrorCode code, std::string message) {
    error_ = Error{code, std::move(message), ""};
    return false;
  }
  bool wrong(std::string_view what) {
    return fail(ErrorCode::corrupt_data, fmt::format("the bundle's index {}", what));
  }
  bool wrong_entry(std::string_view what) {
    return wrong(fmt::format("is wrong: its entry {} {}", index_.entries.size() + 1, what));
  }

  Place place_ = Place::outside;
  std::string_view member_;  ///< whose value comes next
  unsigned seen_ = 0;
  OpenEntry entry_;
  BundleIndex index_;
  std::optional<Error> error_;
};

}  // namespace

Result<std::size_t> bundle_head_bytes(std::span<const std::byte> start) {
  if (start.size() < kBundleStartBytes) {
    return corrupt(fmt::format("{} bytes are fewer than any bundle has", start.size()));
  }
  if (std::memcmp(start.data(), kMagic.data(), kMagic.size()) != 0) {
    return corrupt("it does not begin as a bundle does");
  }
  const std::uint32_t version = number_at(start, kMagic.size());
  if (version > kBundleVersion) {
    return std::unexpected(
        Error{ErrorCode::unsupported,
              fmt::format("the bundle has version {}, this library reads {}; use a newer one", version,
                          kBundleVersion),
              ""});
  }
  if (version != kBundleVersion) return corrupt(fmt::format("version {} was never written", version));
  const std::size_t index_bytes = number_at(start, kMagic.size() + 4);
  if (index_bytes > kMaxBundleIndexBytes) {
    return corrupt(
        fmt::format("its index has {} bytes, at most {} are allowed", index_bytes, kMaxBundleIndexBytes));
  }
  return kBundleStartBytes + index_bytes + kLengthBytes + kSignatureBytes;
}

Result<BundleHead> parse_bundle_head(std::span<const std::byte> bytes) {
  const Result<std::size_t> longest = bundle_head_bytes(bytes);
  if (!longest) return std::unexpected(longest.error());
  const std::size_t covered = *longest - kSignatureBytes - kLengthBytes;
  if (bytes.size() < covered + kLengthBytes) return corrupt("it ends within its index");
  const std::size_t signature_bytes = number_at(bytes, covered);
  BundleHead head{
      .covered = bytes.first(covered),
      .index = {reinterpret_cast<const char*>(bytes.data()) + kBundleStartBytes, covered - kBundleStartBytes},
      .signature = {},
      .bytes = covered + kLengthBytes};
  if (signature_bytes == 0) return head;
  if (signature_bytes != kSignatureBytes) {
    return corrupt(
        fmt::format("its signature has {} bytes, one of Ed25519 has {}", signature_bytes, kSignatureBytes));
  }
  if (bytes.size() < *longest) return corrupt("it ends within its signature");
  std::ranges::copy(bytes.subspan(head.bytes, kSignatureBytes), head.signature.emplace().begin());
  head.bytes = *longest;
  return head;
}

Result<BundleIndex> parse_bundle_index(std::string_view json) {
  if (json.size() > kMaxBundleIndexBytes) {
    return corrupt(fmt::format("an index of {} bytes is too long, at most {} are allowed", json.size(),
                               kMaxBundleIndexBytes));
  }
  // The parser would take a zero byte for the end, whatever came behind it.
  if (json.contains('\0')) return corrupt("the bundle's index has a zero byte, and so is no JSON");
  IndexReader reader;
  if (!nlohmann::json::sax_parse(json, &reader)) return std::unexpected(reader.error());
  return reader.take();
}

Result<std::vector<std::byte>> write_bundle_head(const BundleIndex& index, const SigningKey* signer) {
  using Json = nlohmann::ordered_json;
  Json entries = Json::array();
  for (const BundledEntry& entry : index.entries) {
    entries.push_back({{"key", entry.key.hex()}, {"bytes", entry.bytes}, {"sha256", entry.sha256}});
  }
  const Json document = {{"schema", kIndexSchema},
                         {"created", index.created},
                         {"signer", signer == nullptr ? "" : signer->fingerprint()},
                         {"entries", std::move(entries)}};
  const std::string text =
      document.dump(/*indent=*/-1, ' ', /*ensure_ascii=*/true, Json::error_handler_t::replace);
  if (text.size() > kMaxBundleIndexBytes) {
    return std::unexpected(Error{
        ErrorCode::invalid_argument,
        fmt::format("{} entries are too many for one bundle; export them to several", index.entries.size()),
        ""});
  }
  const auto magic = std::as_bytes(std::span(kMagic));
  std::vector<std::byte> head(magic.begin(), magic.end());
  append_number(head, kBundleVersion);
  append_number(head, text.size());
  const auto text_bytes = std::as_bytes(std::span(text));
  head.insert(head.end(), text_bytes.begin(), text_bytes.end());
  if (signer == nullptr) {
    append_number(head, 0);
    return head;
  }
  const Result<Signature> signature = signer->sign(head);
  if (!signature) return std::unexpected(signature.error());
  append_number(head, signature->size());
  head.insert(head.end(), signature->begin(), signature->end());
  return head;
}

}  // namespace lutsmith::cache
