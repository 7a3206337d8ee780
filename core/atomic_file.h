#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

#include "core/scratch.h"
#include "lutsmith/error.h"

namespace lutsmith::core {

/// A file that appears whole under its name, or not at all: written without a name where the file system can
/// do that, else under a temporary name in the same directory. Without a successful `commit` whatever stood
/// under the name before is untouched.
///
/// A process that is killed while it writes a file without a name leaves nothing. Two moments remain in which
/// it leaves a temporary name: in `create`, that of an empty file by which the file system is tried; and in
/// `commit` where another file is replaced, that of the whole file between its linking and its renaming.
///
/// A symbolic link is followed: the file it points at is the one that is replaced, and the link stays. A file
/// that is replaced hands on its permissions, without the bits that set user and group, and its owner where
/// the process may give files away.
class AtomicFile {
 public:
  /// Fails where the directory is missing or cannot be written, where `path` is something other than a
  /// regular file (a device or a directory is not replaced), or a symbolic link that leads round in circles.
  static Result<AtomicFile> create(const std::filesystem::path& path);

  AtomicFile(AtomicFile&& other) noexcept;
  AtomicFile& operator=(AtomicFile&&) = delete;
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  ~AtomicFile();

  /// Takes the space for this many bytes, where the file system can say at once that it has too little.
  Result<void> reserve(std::uint64_t bytes);
  /// Behind what was written by this call before.
  Result<void> write(std::span<const std::byte> bytes);
  /// From any thread, as long as no other writes the same bytes.
  Result<void> write_at(std::uint64_t first_byte, std::span<const std::byte> bytes);
  /// Flushes to the disk, then gives the file its name.
  Result<void> commit();

 private:
  explicit AtomicFile(std::filesystem::path path) : path_(std::move(path)) {}
  [[nodiscard]] std::unexpected<Error> failure(std::string_view action) const;
  Result<void> open_file();
  bool open_without_name();
  Result<void> open_with_name();
  void take_over_mode() const;
  Result<void> give_name(const ScratchLock& lock);

  std::filesystem::path path_;       // what symbolic links lead to
  std::filesystem::path temporary_;  // empty: the file has no name yet, or its final one
  Scratch scratch_;                  // the temporary
  int descriptor_ = -1;
  std::uint64_t end_ = 0;  // of what `write` wrote
};

}  // namespace lutsmith::core
