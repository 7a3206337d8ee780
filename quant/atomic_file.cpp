#include "quant/atomic_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <system_error>
#include <utility>

namespace lutsmith::quant {
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

}  // namespace

AtomicFile::AtomicFile(fs::path path, fs::path temporary, int descriptor)
    : path_(std::move(path)), temporary_(std::move(temporary)), descriptor_(descriptor) {}

AtomicFile::AtomicFile(AtomicFile&& other) noexcept
    : path_(std::move(other.path_)),
      temporary_(std::exchange(other.temporary_, {})),
      descriptor_(std::exchange(other.descriptor_, -1)) {}

AtomicFile::~AtomicFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
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
  // Another host on a shared file system may have the same process id: then the next number is tried.
  static std::atomic<unsigned> next_number = 0;
  constexpr int kAttempts = 100;
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    const std::string name = fmt::format(".lutsmith-{}-{}.tmp", ::getpid(), next_number++);
    const fs::path temporary = directory_of(path) / name;
    const int descriptor = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (descriptor >= 0) return AtomicFile(path, temporary, descriptor);
    if (errno != EEXIST) break;
  }
  return system_failure(path, "create a file in its directory");
}

Result<void> AtomicFile::write(std::span<const std::byte> bytes) {
  constexpr std::size_t kMostAtOnce = std::size_t{1} << 30;  // Linux writes no more than 2 GiB in a call
  while (!bytes.empty()) {
    const ssize_t written = ::write(descriptor_, bytes.data(), std::min(bytes.size(), kMostAtOnce));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return failure("write");
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
  return {};
}

Result<void> AtomicFile::commit() {
  if (::fsync(descriptor_) != 0) return failure("flush to disk");
  // Some file systems report a failed write only here.
  if (::close(std::exchange(descriptor_, -1)) != 0) return failure("close");
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) return failure("rename the temporary file to it");
  temporary_.clear();
  flush_directory(directory_of(path_));
  return {};
}

}  // namespace lutsmith::quant
