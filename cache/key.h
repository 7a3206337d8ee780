#pragma once

#include <compare>
#include <optional>
#include <string>
#include <string_view>

namespace lutsmith::cache {

/// Everything that decides what a compiler puts out. Two requests that differ in any field never share
/// an entry.
struct KeyFields {
  std::string_view source;    ///< the whole text that is compiled
  std::string_view options;   ///< canonical: one spelling, one order, a line each
  std::string_view compiler;  ///< version and build of the compiler, not only its release
  std::string_view target;    ///< exact architecture, suffix included
};

/// The name of an entry: SHA-256 as 64 lower-case hexadecimal digits.
///
///   digest = SHA-256(field(schema) field(source) field(options) field(compiler) field(target))
///   field  = length of the text as 8 bytes, lowest first; the text
///
/// The lengths keep ("ab", "c") and ("a", "bc") apart. A change of what entries mean changes `schema`.
class Key {
 public:
  static constexpr std::string_view kSchema = "lutsmith kernel 1";
  static constexpr std::size_t kDigits = 64;

  static Key of(const KeyFields& fields);
  /// Nothing where the text is not 64 lower-case hexadecimal digits.
  static std::optional<Key> parse(std::string_view digits);

  const std::string& hex() const { return hex_; }

  friend auto operator<=>(const Key&, const Key&) = default;

 private:
  explicit Key(std::string hex) : hex_(std::move(hex)) {}
  std::string hex_;
};

}  // namespace lutsmith::cache
