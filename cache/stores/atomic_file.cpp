#include "cache/stores/atomic_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdio>

namespace lutsmith::cache {

Result<AtomicFile> AtomicFile::create(const core::Descriptor& directory, std::string name,
                                      const std::filesystem::path& path) {
  // Process id and counter keep writers of one machine apart; a name left by a process of the same id
  // (another machine, or one that was killed) is stepped over.
  static std::atomic<std::uint64_t> counter{0};
  constexpr int kAttempts = 64;
  int reason = 0;
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    std::string temporary = fmt::format("{}{}{}.{}", name, kTemporarySuffix, getpid(), counter++);
    core::Descriptor file(openat(directory.number(), temporary.c_str(),
                                 O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (file.valid()) {
      return AtomicFile(directory.number(), std::move(name), std::move(temporary), path, std::move(file));
    }
    reason = errno;
    if (reason != EEXIST) break;
  }
  return std::unexpected(core::system_error(reason, "create a temporary file for", path));
}

AtomicFile::~AtomicFile() {
  if (!temporary_.empty()) unlinkat(directory_, temporary_.c_str(), 0);
}

Result<void> AtomicFile::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(file_.number(), bytes.data(), bytes.size());
    if (written < 0) {
      if (errno == EINTR) continue;
      return std::unexpected(core::system_error(errno, "write", path_));
    }
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
  return {};
}

Result<void> AtomicFile::commit() {
  if (fsync(file_.number()) != 0) return std::unexpected(core::system_error(errno, "write", path_));
  if (file_.close() != 0) return std::unexpected(core::system_error(errno, "write", path_));
  if (renameat(directory_, temporary_.c_str(), directory_, name_.c_str()) != 0) {
    // A network file system answers so when another machine publishes the same name just now.
    if (errno == EBUSY || errno == ESTALE) return {};
    return std::unexpected(core::system_error(errno, "publish", path_));
  }
  temporary_.clear();
  return {};
}

}  // namespace lutsmith::cache
