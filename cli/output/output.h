#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "lutsmith/error.h"

namespace lutsmith::cli {

/// Keeps the order in which fields are written down.
using Json = nlohmann::ordered_json;

/// Writes to standard error at once. What cannot be written there, because it is closed or full or no one
/// reads it, is lost: never an error, an exception or a SIGPIPE, since no work may depend on what is told of
/// it. Thread-safe; one call's text stays together.
void print_to_stderr(std::string_view text);

/// Writes to standard output. A failure is remembered by the stream and told once by main at the end.
void print_output(std::string_view text);

/// Columns of the terminal that standard error is, 80 where it does not tell; 0 where it is no terminal.
std::size_t terminal_width();

/// The one document of --json, on standard output.
void print_json(const Json& document);

/// {"code", "message", "context"}.
Json to_json(const Error& error);

/// `lutsmith: error: MESSAGE` and the indented context on standard error; with `json` also
/// {"error": ...} on standard output.
void print_error(const Error& error, bool json);

/// `lutsmith: warning: MESSAGE` on standard error.
void print_warning(const std::string& message);

/// Text in columns as wide as their widest cell; a row shorter than the header is filled up with
/// empty cells, and a column without any text is left out. What would steer a terminal is shown escaped
/// (printable.h), here as in errors and warnings.
class TextTable {
 public:
  enum class Align { left, right };
  struct Column {
    std::string title;
    Align align = Align::right;
  };

  explicit TextTable(std::vector<Column> columns);
  void add_row(std::vector<std::string> cells);
  /// A line of its own above the next row, which widens no column.
  void add_heading(std::string_view text);
  /// To standard output; nothing for a table without rows.
  void print() const;

 private:
  struct Row {
    std::vector<std::string> headings;
    std::vector<std::string> cells;
  };

  std::string line(const std::vector<std::string>& cells, const std::vector<std::size_t>& widths) const;

  std::vector<Column> columns_;
  std::vector<Row> rows_;
  std::vector<std::string> headings_;  ///< of the next row
};

/// 1536 -> "1.5 KiB".
std::string byte_count(double bytes);
std::string byte_count(std::integral auto bytes) { return byte_count(static_cast<double>(bytes)); }

/// "1 kernel", "2 kernels".
std::string counted(std::uint64_t count, std::string_view thing);

}  // namespace lutsmith::cli
