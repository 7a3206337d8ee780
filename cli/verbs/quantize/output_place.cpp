#include "cli/verbs/quantize/output_place.h"

#include <fmt/format.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <system_error>
#include <utility>

#include "cli/output/output.h"
#include "cli/output/printable.h"
#include "core/result.h"

namespace lutsmith::cli {
namespace {

namespace fs = std::filesystem;

std::string shown(const fs::path& path) { return printable(path.string()); }

std::unexpected<Error> failure(const fs::path& path, const char* what, const std::error_code& error) {
  return std::unexpected(
      Error{ErrorCode::io_error, fmt::format("output: {} '{}': {}", what, shown(path), error.message()), {}});
}

fs::path folder_of(const fs::path& path) {
  return path.has_parent_path() ? path.parent_path() : fs::path(".");
}

Result<void> check_parent(const fs::path& output) {
  std::error_code ignored;
  const fs::path folder = folder_of(output);
  if (fs::is_directory(folder, ignored)) return {};
  return refuse(fmt::format("output: '{}' is not a directory; create it first", shown(folder)));
}

Result<void> check_named(const fs::path& output) {
  if (!output.empty()) return {};
  return refuse("output: '' is no name; give that of the checkpoint to write");
}

/// Whether a folder holds nothing but `own`. A new file system has a lost+found of its own.
Result<void> check_empty(const fs::path& folder, const fs::path& own) {
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    const fs::path name = entry->path().filename();
    if (name == own || name == "lost+found") continue;
    return refuse(fmt::format("output: the folder '{}' is not empty, it holds '{}'; give a new one",
                              shown(folder), shown(name)));
  }
  if (error) return failure(folder, "cannot read the folder", error);
  return {};
}

// Without a trailing slash, behind which a path has no name.
fs::path with_name(const fs::path& path) { return path.has_filename() ? path : path.parent_path(); }

}  // namespace

Result<void> check_output_file(const fs::path& output, const Checkpoint& input) {
  if (auto named = check_named(output); !named) return named;
  std::error_code ignored;
  for (const Shard& shard : input.shards()) {
    if (fs::equivalent(shard.file.path(), output, ignored)) {
      return refuse(fmt::format("output: '{}' is the input itself; give another name", shown(output)));
    }
  }
  if (fs::is_directory(output, ignored) || !output.has_filename()) {
    return refuse(fmt::format("output: '{}' is a folder; give the name of a file, as the input is one file",
                              shown(output)));
  }
  return check_parent(output);
}

Result<void> check_room(const fs::path& folder, std::uint64_t bytes) {
  struct statvfs found = {};
  // File systems that cannot tell say 0 blocks.
  if (statvfs(folder.c_str(), &found) != 0 || found.f_blocks == 0) return {};
  const std::uint64_t free = std::uint64_t{found.f_bavail} * found.f_frsize;
  if (free >= bytes) return {};
  return std::unexpected(Error{ErrorCode::io_error,
                               fmt::format("output: {} are needed in '{}', where {} are free",
                                           byte_count(bytes), shown(folder), byte_count(free)),
                               {}});
}

Result<OutputFolder> OutputFolder::create(const fs::path& output) {
  if (auto named = check_named(output); !named) return std::unexpected(named.error());
  std::error_code error;
  OutputFolder folder;
  folder.output_ = with_name(output);
  if (fs::exists(folder.output_, error)) {
    if (!fs::is_directory(folder.output_, error)) {
      return refuse(
          fmt::format("output: '{}' is a file; give a folder, as the input has several files or an index",
                      shown(output)));
    }
    if (auto empty = check_empty(folder.output_, {}); !empty) return std::unexpected(empty.error());
    folder.output_ = fs::canonical(folder.output_, error);
    if (error) return failure(output, "cannot find", error);
    folder.existed_ = true;
  } else if (fs::is_symlink(folder.output_, error)) {
    return refuse(
        fmt::format("output: '{}' is a symbolic link to nothing; give a new folder", shown(output)));
  } else if (auto parent = check_parent(folder.output_); !parent) {
    return std::unexpected(parent.error());
  }
  if (auto made = folder.make_temporary(); !made) return std::unexpected(made.error());
  return folder;
}

Result<void> OutputFolder::make_temporary() {
  const fs::path place = existed_ ? output_ : folder_of(output_);
  std::error_code error;
  const core::ScratchLock lock;
  for (int number = 0;; ++number) {
    const fs::path temporary = place / fmt::format(".lutsmith-{}-{}.tmp", getpid(), number);
    if (fs::create_directory(temporary, error)) {
      temporary_ = temporary;
      scratch_ = core::Scratch::folder(lock, temporary);
      return {};
    }
    if (error) return failure(place, "cannot write to", error);
  }
}

OutputFolder::~OutputFolder() {
  if (temporary_.empty() || !scratch_.owned()) return;
  std::error_code ignored;
  fs::remove_all(temporary_, ignored);
}

Result<void> OutputFolder::commit(std::span<const std::string> files) {
  std::error_code error;
  const core::ScratchLock lock;
  if (existed_) {
    if (auto moved = move_files(files); !moved) return moved;
    fs::remove(temporary_, error);
  } else {
    // Takes the place of an empty folder too, and fails where it is no longer empty.
    fs::rename(temporary_, output_, error);
    if (error) return failure(output_, "cannot create", error);
  }
  scratch_.forget(lock);
  temporary_.clear();
  return {};
}

Result<void> OutputFolder::move_files(std::span<const std::string> files) const {
  if (auto empty = check_empty(output_, temporary_.filename()); !empty) return empty;
  for (std::size_t i = 0; i < files.size(); ++i) {
    std::error_code error;
    fs::rename(temporary_ / files[i], output_ / files[i], error);
    if (!error) continue;
    std::error_code ignored;
    for (const std::string& moved : files.first(i)) fs::remove(output_ / moved, ignored);
    return failure(output_ / files[i], "cannot create", error);
  }
  return {};
}

}  // namespace lutsmith::cli
