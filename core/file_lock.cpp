#include "core/file_lock.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <thread>

namespace lutsmith::core {
namespace {

using Time = std::chrono::steady_clock;
using std::chrono::milliseconds;

// Nobody is told when such a lock becomes free, so it is tried again and again.
constexpr milliseconds kFirstPause{1};
constexpr milliseconds kLongestPause{20};

/// Sets F_WRLCK or F_UNLCK on a byte; 0 or the error number.
int set_lock(const Descriptor& file, short type, std::int64_t byte) {
  struct flock lock{};  // l_pid must be 0
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = byte;
  lock.l_len = 1;
  return fcntl(file.number(), F_OFD_SETLK, &lock) == 0 ? 0 : errno;
}

/// Whether the name still stands for the open file.
bool is_current(const Descriptor& directory, const std::string& name, const Descriptor& file) {
  struct stat opened{};
  struct stat named{};
  return fstat(file.number(), &opened) == 0 &&
         fstatat(directory.number(), name.c_str(), &named, AT_SYMLINK_NOFOLLOW) == 0 &&
         opened.st_dev == named.st_dev && opened.st_ino == named.st_ino;
}

}  // namespace

std::unique_ptr<FileLock> FileLock::acquire(const Descriptor& directory, const std::string& name,
                                            std::int64_t byte, milliseconds longest, bool* timed_out) {
  const Time::time_point deadline = Time::now() + longest;
  milliseconds pause = kFirstPause;
  if (timed_out != nullptr) *timed_out = false;
  const auto too_long = [&] {
    const bool late = Time::now() >= deadline;
    if (late && timed_out != nullptr) *timed_out = true;
    return late;
  };
  while (true) {
    Descriptor file(
        openat(directory.number(), name.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (!file.valid()) return nullptr;
    int failed = set_lock(file, F_WRLCK, byte);
    while (failed == EAGAIN || failed == EACCES || failed == EINTR) {
      if (too_long()) return nullptr;
      std::this_thread::sleep_for(pause);
      pause = std::min(2 * pause, kLongestPause);
      failed = set_lock(file, F_WRLCK, byte);
    }
    if (failed != 0) return nullptr;
    if (is_current(directory, name, file))
      return std::unique_ptr<FileLock>(new FileLock(std::move(file), byte));
    // The file was deleted meanwhile: others lock the new one.
    if (too_long()) return nullptr;
  }
}

// Unlocked by name, not by closing alone: a child that was forked meanwhile has the file open too.
FileLock::~FileLock() { set_lock(file_, F_UNLCK, byte_); }

}  // namespace lutsmith::core
