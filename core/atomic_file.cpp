#include "core/atomic_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <system_error>
#include <utility>

namespace lutsmith::core {
namespace {

namespace fs = std::filesystem;

/// The message for errno as it stands.
std::unexpected<Error> system_failure(const fs::path& path, std::string_view action) {
  const int error = errno;
  const ErrorCode code = error == ENOENT ? ErrorCode::not_found : ErrorCode::io_error;
  return std::unexpected(
      Error{code,
            fmt::format("{}: cannot {}: {}", path.string(), action, std::generic_category().message(error)),
            {}});
}

/// A rename survives a power cut once the directory has reached the disk. Not every file system can
/// do that; the file is complete either way.
void flush_directory(const fs::path& directory) {
  const int descriptor = ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return;
  ::fsync(descriptor);
  ::close(descriptor);
}

fs::path directory_of(const fs::path& path) {
  return path.has_parent_path() ? path.parent_path() : fs::path(".");
}

/// Where symbolic links lead, which may be a file that does not exist yet.
Result<fs::path> follow_links(const fs::path& path) {
  constexpr int kMostLinks = 40;  // as the kernel has it
  fs::path target = path;
  std::error_code error;
  for (int links = 0; fs::is_symlink(fs::symlink_status(target, error)); ++links) {
    if (links == kMostLinks) {
      errno = ELOOP;
      return system_failure(path, "follow the symbolic link");
    }
    const fs::path next = fs::read_symlink(target, error);
    if (error) {
      errno = error.value();
      return system_failure(path, "follow the symbolic link");
    }
    target = target.parent_path() / next;
  }
  return target;
}

/// A name in the directory of `path` that no other file of this process has.
fs::path temporary_name(const fs::path& path) {
  static std::atomic<unsigned> next_number = 0;
  return directory_of(path) / fmt::format(".lutsmith-{}-{}.tmp", ::getpid(), next_number++);
}

// Another host on a shared file system may have the same process id: then the next number is tried.
constexpr int kAttempts = 100;

/// The name by which a file that has none can be linked.
std::string name_of(int descriptor) { return fmt::format("/proc/self/fd/{}", descriptor); }

bool link_to(int descriptor, const fs::path& path) {
  return ::linkat(AT_FDCWD, name_of(descriptor).c_str(), AT_FDCWD, path.c_str(), AT_SYMLINK_FOLLOW) == 0;
}

int open_unnamed(const fs::path& directory) {
  return ::open(directory.c_str(), O_WRONLY | O_TMPFILE | O_CLOEXEC, 0666);
}

/// Whether a file without a name can be given one here: some file systems can make the one but not do the
/// other, and without /proc there is no way. Better tried on an empty file than learned after hours of
/// writing.
bool unnamed_files_can_be_linked(const fs::path& directory) {
  const int descriptor = open_unnamed(directory);
  if (descriptor < 0) return false;
  bool linked = false;
  {
    const ScratchLock lock;
    const fs::path name = temporary_name(directory / "probe");
    linked = link_to(descriptor, name);
    if (linked) ::unlink(name.c_str());
  }
  ::close(descriptor);
  return linked;
}

}  // namespace

AtomicFile::AtomicFile(AtomicFile&& other) noexcept
    : path_(std::move(other.path_)),
      temporary_(std::exchange(other.temporary_, {})),
      scratch_(std::move(other.scratch_)),
      descriptor_(std::exchange(other.descriptor_, -1)),
      end_(other.end_) {}

AtomicFile::~AtomicFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
  // A forked copy of the process leaves the file to the one that made it.
  if (scratch_.owned()) ::unlink(temporary_.c_str());
}

std::unexpected<Error> AtomicFile::failure(std::string_view action) const {
  return system_failure(path_, action);
}

Result<AtomicFile> AtomicFile::create(const fs::path& path) {
  std::error_code ignored;
  const fs::file_status status = fs::status(path, ignored);
  if (!path.has_filename() || (fs::exists(status) && !fs::is_regular_file(status))) {
    return std::unexpected(
        Error{ErrorCode::invalid_argument,
              fmt::format("{}: is not a regular file and will not be replaced; name a file", path.string()),
              {}});
  }
  auto target = follow_links(path);
  if (!target) return std::unexpected(target.error());
  AtomicFile file(*std::move(target));
  if (auto opened = file.open_file(); !opened) return std::unexpected(opened.error());
  file.take_over_mode();
  return file;
}

Result<void> AtomicFile::open_file() {
  if (open_without_name()) return {};
  return open_with_name();
}

bool AtomicFile::open_without_name() {
  const fs::path directory = directory_of(path_);
  if (!unnamed_files_can_be_linked(directory)) return false;
  descriptor_ = open_unnamed(directory);
  return descriptor_ >= 0;
}

Result<void> AtomicFile::open_with_name() {
  const ScratchLock lock;
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    fs::path temporary = temporary_name(path_);
    descriptor_ = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (descriptor_ >= 0) {
      scratch_ = Scratch::file(lock, temporary);
      temporary_ = std::move(temporary);
      return {};
    }
    if (errno != EEXIST) break;
  }
  return failure("create a file in its directory");
}

void AtomicFile::take_over_mode() const {
  struct stat replaced{};
  if (::stat(path_.c_str(), &replaced) != 0) return;
  // Only root may give a file to another user, and a user only to his groups; the mode is what counts.
  if (::fchown(descriptor_, replaced.st_uid, replaced.st_gid) != 0) {
    static_cast<void>(::fchown(descriptor_, static_cast<uid_t>(-1), replaced.st_gid) == 0);
  }
  // New contents are not what was trusted to run as its owner or group.
  ::fchmod(descriptor_, replaced.st_mode & 0777);
}

Result<void> AtomicFile::reserve(std::uint64_t bytes) {
  if (bytes == 0) return {};
  while (::fallocate(descriptor_, 0, 0, static_cast<off_t>(bytes)) != 0) {
    if (errno == EINTR) continue;
    if (errno == ENOSPC || errno == EFBIG || errno == EDQUOT) {
      return failure(fmt::format("write {} bytes", bytes));
    }
    break;  // the file system cannot reserve
  }
  return {};
}

Result<void> AtomicFile::write(std::span<const std::byte> bytes) {
  if (auto written = write_at(end_, bytes); !written) return written;
  end_ += bytes.size();
  return {};
}

Result<void> AtomicFile::write_at(std::uint64_t first_byte, std::span<const std::byte> bytes) {
  constexpr std::size_t kMostAtOnce = std::size_t{1} << 30;  // Linux writes no more than 2 GiB in a call
  auto position = static_cast<off_t>(first_byte);
  while (!bytes.empty()) {
    const ssize_t written =
        ::pwrite(descriptor_, bytes.data(), std::min(bytes.size(), kMostAtOnce), position);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return failure("write");
    bytes = bytes.subspan(static_cast<std::size_t>(written));
    position += written;
  }
  return {};
}

Result<void> AtomicFile::commit() {
  if (::fsync(descriptor_) != 0) return failure("flush to disk");
  {
    const ScratchLock lock;
    if (auto named = give_name(lock); !named) return named;
    scratch_.forget(lock);
    temporary_.clear();
  }
  // Some file systems report a failed write only here, but not those that were just flushed.
  ::close(std::exchange(descriptor_, -1));
  flush_directory(directory_of(path_));
  return {};
}

Result<void> AtomicFile::give_name(const ScratchLock& lock) {
  if (temporary_.empty()) {
    if (link_to(descriptor_, path_)) return {};
    // A name that is taken can only be replaced by another name.
    for (int attempt = 0; errno == EEXIST && attempt < kAttempts; ++attempt) {
      fs::path temporary = temporary_name(path_);
      if (!link_to(descriptor_, temporary)) continue;
      scratch_ = Scratch::file(lock, temporary);
      temporary_ = std::move(temporary);
      break;
    }
    if (temporary_.empty()) return failure("give it its name");
  }
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) return failure("rename the temporary file to it");
  return {};
}

}  // namespace lutsmith::core
