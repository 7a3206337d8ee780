#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

#include "checkpoint/checkpoint.h"
#include "core/scratch.h"
#include "lutsmith/error.h"

namespace lutsmith::cli {

/// Whether a file can be written there: it is none of the checkpoint's own, its folder exists, and it is no
/// folder itself. invalid_argument where not. What only the system knows (permissions, a read-only file
/// system) shows when the file is begun.
Result<void> check_output_file(const std::filesystem::path& output, const Checkpoint& input);

/// Whether the file system has room for so many bytes, as far as it tells; io_error where it has not.
Result<void> check_room(const std::filesystem::path& folder, std::uint64_t bytes);

/// A folder whose files appear under their names together, or not at all: they are written to a temporary
/// folder beside it, which `commit` renames. Where there is an empty folder already, it may be a mount point,
/// or its parent closed; so the temporary folder lies inside of it, and `commit` moves the files up. Without
/// a successful commit the temporary folder is removed.
class OutputFolder {
 public:
  /// `output` must be missing or an empty folder, that can be written to, as its parent can where it is
  /// missing. Errors: invalid_argument, io_error.
  static Result<OutputFolder> create(const std::filesystem::path& output);

  OutputFolder(OutputFolder&&) noexcept = default;
  OutputFolder& operator=(OutputFolder&&) = delete;
  ~OutputFolder();

  /// Where to write the files to.
  [[nodiscard]] const std::filesystem::path& path() const { return temporary_; }
  /// `files`: the names of all that was written there. Other programs may see one after the other appear, in
  /// this order.
  Result<void> commit(std::span<const std::string> files);

 private:
  OutputFolder() = default;
  Result<void> make_temporary();
  [[nodiscard]] Result<void> move_files(std::span<const std::string> files) const;

  std::filesystem::path output_;     // what symbolic links lead to
  std::filesystem::path temporary_;  // empty once it is gone
  bool existed_ = false;             // the output, as an empty folder
  core::Scratch scratch_;
};

}  // namespace lutsmith::cli
