#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "core/scratch.h"
#include "lutsmith/error.h"

namespace lutsmith::emulator {

/// A folder of its own that is gone afterwards, even where the program is interrupted (core/scratch.h). It
/// lies where TMPDIR says; in /tmp where that is empty or not set.
class TemporaryFolder {
 public:
  /// `name` is how the folder's name begins. The error names the place and TMPDIR.
  static Result<TemporaryFolder> make(std::string_view name);

  TemporaryFolder(TemporaryFolder&& other) noexcept = default;
  TemporaryFolder& operator=(TemporaryFolder&&) = delete;
  ~TemporaryFolder();

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path operator/(std::string_view name) const { return path_ / name; }
  std::string string() const { return path_.string(); }

 private:
  TemporaryFolder(std::filesystem::path path, core::Scratch scratch)
      : path_(std::move(path)), scratch_(std::move(scratch)) {}

  std::filesystem::path path_;
  core::Scratch scratch_;  // owned by one of those that were moved from one another
};

}  // namespace lutsmith::emulator
