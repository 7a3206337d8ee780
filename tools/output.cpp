#include "output.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <utility>

namespace lutsmith::tools {
namespace {

std::string indented(std::string_view text) {
  std::string result;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    result += fmt::format("  {}\n", text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return result;
}

}  // namespace

void print_json(const Json& document) {
  // Names from other people's files need not be UTF-8; JSON has to be.
  fmt::print("{}\n", document.dump(2, ' ', false, Json::error_handler_t::replace));
}

Json to_json(const Error& error) {
  return {{"code", to_string(error.code)}, {"message", error.message}, {"context", error.context}};
}

void print_error(const Error& error, bool json) {
  fmt::print(stderr, "lutsmith: error: {}\n{}", error.message, indented(error.context));
  if (json) print_json({{"error", to_json(error)}});
}

void print_warning(const std::string& message) {
  // On a terminal a progress bar may stand on this line; it is drawn again on the next.
  const char* clean_line = isatty(STDERR_FILENO) == 1 ? "\r\x1b[K" : "";
  fmt::print(stderr, "{}lutsmith: warning: {}\n", clean_line, message);
}

TextTable::TextTable(std::vector<Column> columns) : columns_(std::move(columns)) {}

void TextTable::add_row(std::vector<std::string> cells) {
  cells.resize(columns_.size());
  rows_.push_back(std::move(cells));
}

void TextTable::print() const {
  std::vector<std::string> titles;
  std::vector<std::size_t> widths(columns_.size());
  for (const auto& row : rows_) {
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  for (std::size_t i = 0; i < columns_.size(); ++i) {
    titles.push_back(columns_[i].title);
    if (widths[i] > 0) widths[i] = std::max(widths[i], columns_[i].title.size());
  }
  const auto print_row = [&](const std::vector<std::string>& row) {
    std::string line;
    for (std::size_t i = 0; i < row.size(); ++i) {
      if (widths[i] == 0) continue;
      if (!line.empty()) line += "  ";
      line += columns_[i].align == Align::left ? fmt::format("{:<{}}", row[i], widths[i])
                                               : fmt::format("{:>{}}", row[i], widths[i]);
    }
    fmt::print("{}\n", line.substr(0, line.find_last_not_of(' ') + 1));
  };
  if (!rows_.empty()) print_row(titles);
  for (const auto& row : rows_) print_row(row);
}

std::string byte_count(double bytes) {
  constexpr std::array kUnits{"B", "KiB", "MiB", "GiB", "TiB"};
  std::size_t unit = 0;
  while (bytes >= 1024 && unit + 1 < kUnits.size()) {
    bytes /= 1024;
    ++unit;
  }
  return unit == 0 ? fmt::format("{:.0f} B", bytes) : fmt::format("{:.1f} {}", bytes, kUnits[unit]);
}

std::string counted(std::uint64_t count, std::string_view thing) {
  return fmt::format("{} {}{}", count, thing, count == 1 ? "" : "s");
}

}  // namespace lutsmith::tools
