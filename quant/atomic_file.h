#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>

#include "lutsmith/error.h"

namespace lutsmith::quant {

/// A file that appears whole under its name, or not at all: written under a temporary name in the
/// same directory, renamed by `commit`. Without a successful commit the temporary file is removed
/// and whatever stood under the name before is untouched.
class AtomicFile {
 public:
  /// Fails where the directory is missing or cannot be written, or where `path` is something other
  /// than a regular file (a device or a directory is not replaced).
  static Result<AtomicFile> create(const std::filesystem::path& path);

  AtomicFile(AtomicFile&& other) noexcept;
  AtomicFile& operator=(AtomicFile&&) = delete;
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  ~AtomicFile();

  Result<void> write(std::span<const std::byte> bytes);
  /// Flushes to the disk, then renames.
  Result<void> commit();

 private:
  AtomicFile(std::filesystem::path path, std::filesystem::path temporary, int descriptor);
  [[nodiscard]] std::unexpected<Error> failure(std::string_view action) const;

  std::filesystem::path path_;
  std::filesystem::path temporary_;  // empty once renamed
  int descriptor_ = -1;
};

}  // namespace lutsmith::quant
