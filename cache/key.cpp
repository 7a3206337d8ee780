#include "cache/key.h"

#include <llvm/ADT/StringExtras.h>
#include <llvm/Support/Endian.h>
#include <llvm/Support/SHA256.h>

#include <algorithm>
#include <array>

namespace lutsmith::cache {
namespace {

void add_field(llvm::SHA256& hash, std::string_view text) {
  std::array<std::uint8_t, 8> length{};
  llvm::support::endian::write64le(length.data(), text.size());
  hash.update(length);
  hash.update(llvm::StringRef(text));
}

}  // namespace

Key Key::of(const KeyFields& fields) {
  llvm::SHA256 hash;
  for (const std::string_view text :
       {kSchema, fields.source, fields.options, fields.compiler, fields.target}) {
    add_field(hash, text);
  }
  return Key(llvm::toHex(hash.final(), /*LowerCase=*/true));
}

std::optional<Key> Key::parse(std::string_view digits) {
  const auto is_digit = [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); };
  if (digits.size() != kDigits || !std::ranges::all_of(digits, is_digit)) return std::nullopt;
  return Key(std::string(digits));
}

}  // namespace lutsmith::cache
