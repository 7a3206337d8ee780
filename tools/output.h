#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "lutsmith/error.h"

namespace lutsmith::tools {

/// Keeps the order in which fields are written down.
using Json = nlohmann::ordered_json;

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
/// empty cells, and a column without any text is left out.
class TextTable {
 public:
  enum class Align { left, right };
  struct Column {
    std::string title;
    Align align = Align::right;
  };

  explicit TextTable(std::vector<Column> columns);
  void add_row(std::vector<std::string> cells);
  /// To standard output; nothing for a table without rows.
  void print() const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

/// 1536 -> "1.5 KiB".
std::string byte_count(double bytes);

/// "1 kernel", "2 kernels".
std::string counted(std::uint64_t count, std::string_view thing);

}  // namespace lutsmith::tools
