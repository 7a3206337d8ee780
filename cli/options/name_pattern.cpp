#include "cli/options/name_pattern.h"

#include <fmt/format.h>
#include <re2/re2.h>

#include <utility>

#include "cli/output/printable.h"

namespace lutsmith::cli {
namespace {

constexpr std::size_t kShownExpression = 80;  // characters
constexpr std::size_t kShownName = 60;
constexpr std::size_t kShownNames = 3;

std::shared_ptr<const re2::RE2> compile(const std::string& expression) {
  re2::RE2::Options options;
  options.set_log_errors(false);
  return std::make_shared<const re2::RE2>(expression, options);
}

}  // namespace

NamePattern::NamePattern(std::string text, std::shared_ptr<const re2::RE2> expression)
    : text_(std::move(text)), expression_(std::move(expression)) {}

Result<NamePattern> NamePattern::parse(std::string_view option, const std::string& expression) {
  auto compiled = compile(expression);
  if (compiled->ok()) return NamePattern(expression, std::move(compiled));
  return std::unexpected(
      Error{ErrorCode::invalid_argument,
            fmt::format("{}: '{}' is not a regular expression: {}", option,
                        printable(expression, kShownExpression), printable(compiled->error())),
            {}});
}

bool NamePattern::found_in(std::string_view name) const {
  return re2::RE2::PartialMatch(re2::StringPiece(name.data(), name.size()), *expression_);
}

std::string expression_of_wildcard(std::string_view wildcard) {
  if (!wildcard.contains('*') && !wildcard.contains('?')) return {};
  std::string result = wildcard.starts_with('*') ? "" : "^";
  for (const char character : wildcard) {
    if (character == '*') {
      result += ".*";
    } else if (character == '?') {
      result += '.';
    } else {
      result += re2::RE2::QuoteMeta(re2::StringPiece(&character, 1));
    }
  }
  return result + "$";
}

std::string wildcard_advice(std::string_view option, const std::string& expression,
                            const std::vector<std::string>& names) {
  const std::string meant = expression_of_wildcard(expression);
  if (meant.empty()) return {};
  const auto pattern = NamePattern::parse(option, meant);
  if (!pattern) return {};
  std::string examples;
  std::size_t matches = 0;
  for (const std::string& name : names) {
    if (!pattern->found_in(name)) continue;
    if (matches++ < kShownNames) examples += (examples.empty() ? "" : ", ") + printable(name, kShownName);
  }
  if (matches == 0) return {};
  return fmt::format(
      "--{} takes a regular expression, in which '.*' stands for any text and '\\.' for a dot\n"
      "as one your wildcard is '{}', which matches {} of the names: {}{}",
      option, printable(meant), matches, examples, matches > kShownNames ? ", ..." : "");
}

}  // namespace lutsmith::cli
