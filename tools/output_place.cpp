#include "output_place.h"

#include <fmt/format.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <system_error>
#include <utility>

#include "output.h"
#include "printable.h"

namespace lutsmith::tools {
namespace {

namespace fs = std::filesystem;

std::string shown(const fs::path& path) { return printable(path.string()); }

std::unexpected<Error> refuse(std::string message) {
  return std::unexpected(Error{ErrorCode::invalid_argument, std::move(message), {}});
}

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

// Without a trailing slash, behind which a path has no name.
fs::path with_name(const fs::path& path) { return path.has_filename() ? path : path.parent_path(); }

}  // namespace

Result<void> check_output_file(const fs::path& output, const Checkpoint& input) {
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
  return std::unexpected(Error{
      ErrorCode::io_error,
      fmt::format("output: {} are needed in '{}', where {} are free", byte_count(static_cast<double>(bytes)),
                  shown(folder), byte_count(static_cast<double>(free))),
      {}});
}

Result<OutputFolder> OutputFolder::create(const fs::path& output) {
  std::error_code error;
  OutputFolder folder;
  folder.output_ = with_name(output);
  if (fs::exists(folder.output_, error)) {
    if (!fs::is_directory(folder.output_, error)) {
      return refuse(
          fmt::format("output: '{}' is a file; give a folder, as the input has several files or an index",
                      shown(output)));
    }
    if (!fs::is_empty(folder.output_, error) || error) {
      return refuse(fmt::format("output: the folder '{}' is not empty; give a new one", shown(output)));
    }
    folder.output_ = fs::canonical(folder.output_, error);
    if (error) return failure(output, "cannot find", error);
  } else if (fs::is_symlink(folder.output_, error)) {
    return refuse(
        fmt::format("output: '{}' is a symbolic link to nothing; give a new folder", shown(output)));
  }
  if (auto parent = check_parent(folder.output_); !parent) return std::unexpected(parent.error());
  const core::ScratchLock lock;
  for (int number = 0;; ++number) {
    const fs::path temporary =
        folder_of(folder.output_) / fmt::format(".lutsmith-{}-{}.tmp", getpid(), number);
    if (fs::create_directory(temporary, error)) {
      folder.temporary_ = temporary;
      folder.scratch_ = core::Scratch::folder(lock, temporary);
      break;
    }
    if (error) return failure(folder_of(folder.output_), "cannot write to", error);
  }
  return folder;
}

OutputFolder::~OutputFolder() {
  if (temporary_.empty() || !scratch_.owned()) return;
  std::error_code ignored;
  fs::remove_all(temporary_, ignored);
}

Result<void> OutputFolder::commit() {
  std::error_code error;
  const core::ScratchLock lock;
  if (fs::exists(output_, error))
    fs::permissions(temporary_, fs::status(output_, error).permissions(), error);
  // Takes the place of an empty folder too, and fails where it is no longer empty.
  fs::rename(temporary_, output_, error);
  if (error) return failure(output_, "cannot create", error);
  scratch_.forget(lock);
  temporary_.clear();
  return {};
}

}  // namespace lutsmith::tools
