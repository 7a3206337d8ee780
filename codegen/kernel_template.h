#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace lutsmith {

/// The text of a family's root template with named parts set. The names are the contract between the
/// generator and the template; one that is not there makes the text unusable.
class KernelTemplate {
 public:
  explicit KernelTemplate(std::string text) : text_(std::move(text)) {}

  /// Gives the constant `name` of the template's Config another value.
  void set_constant(std::string_view name, std::string_view value);
  void set_constant(std::string_view name, std::int64_t value);
  void set_flag(std::string_view name, bool value);
  /// Puts another text in the place of the first `what`.
  void replace(std::string_view what, std::string_view with);

  const std::string& text() const { return text_; }
  /// The first part that was not there; empty where all were.
  const std::string& missing() const { return missing_; }

 private:
  std::size_t find(std::string_view part);

  std::string text_;
  std::string missing_;
};

/// The constant for a field of a schedule: "tile_rows" is kTileRows.
std::string constant_name(std::string_view field);

}  // namespace lutsmith
