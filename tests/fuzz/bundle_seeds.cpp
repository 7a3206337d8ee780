#include "cache/bundles/bundle_format.h"
#include "must.h"
#include "seeds.h"

namespace lutsmith::fuzz {
namespace {

using test::must;

cache::BundledEntry bundled(char digit) {
  const std::string digits(cache::Key::kDigits, digit);
  return {.key = cache::Key::parse(digits).value(), .bytes = 1234, .sha256 = digits};
}

Bytes head_of(const cache::BundleIndex& index) { return must(write_bundle_head(index, nullptr)); }

/// A signature is only cut out, never verified.
Bytes with_signature(std::span<const std::byte> head) {
  return joined({head.first(head.size() - 4), bytes_of({"\x40\0\0\0", 4}), Bytes(64, std::byte{0x5a})});
}

Bytes with_version(Bytes head, std::uint32_t version) {
  head[8] = static_cast<std::byte>(version);
  return head;
}

}  // namespace

Seeds bundle_seeds() {
  const cache::BundleIndex none{.created = "2025-01-31T23:59:59Z", .signer = "", .entries = {}};
  cache::BundleIndex two = none;
  two.entries = {bundled('a'), bundled('b')};
  const Bytes whole = head_of(two);
  const std::string index(must(cache::parse_bundle_head(whole)).index);
  return {
      {"bundle_empty", head_of(none)},
      {"bundle_unsigned", whole},
      {"bundle_signed", with_signature(whole)},
      {"bundle_newer", with_version(whole, cache::kBundleVersion + 1)},
      {"bundle_cut_off", {whole.begin(), whole.end() - 40}},
      {"bundle_with_entries", joined({whole, Bytes(100, std::byte{7})})},
      {"index", bytes_of(index)},
      {"index_with_blanks", bytes_of(replaced(index, ":", " \n\t:"))},
      {"index_with_escape", bytes_of(replaced(index, "aaaa", R"(\u0061aaa)"))},
      {"index_newer", bytes_of(replaced(index, "1", "2"))},
      {"index_of_too_long_entry", bytes_of(replaced(index, "1234", "123456789"))},
      {"index_with_null", bytes_of(replaced(index, "1234", "null"))},
      {"index_with_true", bytes_of(replaced(index, "1234", "true"))},
  };
}

}  // namespace lutsmith::fuzz
