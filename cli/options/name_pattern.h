#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "lutsmith/error.h"

namespace re2 {
class RE2;
}

namespace lutsmith::cli {

/// A regular expression that is looked for in names of tensors, in RE2's syntax: in time linear in the name
/// and in bounded memory, whatever expression and name.
class NamePattern {
 public:
  /// `option` is what the message of an error begins with: "layers". Errors: invalid_argument with RE2's
  /// reason and, where the text looks like a shell's wildcard, the expression that means the same.
  static Result<NamePattern> parse(std::string_view option, const std::string& expression);

  [[nodiscard]] const std::string& text() const { return text_; }
  /// Whether it matches any part of the name.
  [[nodiscard]] bool found_in(std::string_view name) const;

 private:
  NamePattern(std::string text, std::shared_ptr<const re2::RE2> expression);

  std::string text_;
  std::shared_ptr<const re2::RE2> expression_;
};

/// The regular expression for a shell's wildcard: "*.weight" -> ".*\.weight$". Empty for a text without * and
/// ?.
std::string expression_of_wildcard(std::string_view wildcard);

/// For an expression that cannot be parsed or that matches none of `names`: lines that say that it is a
/// regular expression, which one was probably meant, and some of the names that would match. Empty where
/// there is nothing to say.
std::string wildcard_advice(std::string_view option, const std::string& expression,
                            const std::vector<std::string>& names);

}  // namespace lutsmith::cli
