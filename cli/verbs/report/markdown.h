#pragma once

#include <fmt/format.h>

#include <string>
#include <string_view>
#include <vector>

namespace lutsmith::cli {

/// Text of other people's files in Markdown: no table, no link and no HTML comes of it.
inline std::string markdown_text(std::string_view text) {
  std::string escaped;
  for (const char c : text) {
    if (std::string_view("\\`*_[]<>|&#~").contains(c)) escaped += '\\';
    escaped += c == '\n' || c == '\r' ? ' ' : c;
  }
  return escaped;
}

struct MarkdownTable {
  std::string text;

  /// Titles that begin with a blank are of columns of numbers.
  explicit MarkdownTable(const std::vector<std::string>& titles) {
    std::string rule;
    for (const std::string& title : titles) {
      text += fmt::format("| {} ", title);
      rule += title.starts_with(' ') ? "| ---: " : "| --- ";
    }
    text += "|\n" + rule + "|\n";
  }
  void add(const std::vector<std::string>& cells) {
    for (const std::string& each : cells) text += fmt::format("| {} ", markdown_text(each));
    text += "|\n";
  }
};

}  // namespace lutsmith::cli
