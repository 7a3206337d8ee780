#include "cache/stores/key_lock.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <thread>

namespace lutsmith::cache {
namespace {

using Time = std::chrono::steady_clock;
using std::chrono::milliseconds;

// Nobody is told when such a lock becomes free, so it is tried again and again.
constexpr milliseconds kFirstPause{1};
constexpr milliseconds kLongestPause{20};
constexpr std::size_t kDigits = 15;  // 60 bits

std::int64_t byte_of(const Key& key) { return std::stoll(key.hex().substr(0, kDigits), nullptr, 16); }

/// Sets F_WRLCK or F_UNLCK on a byte; 0 or the error number.
int set_lock(const core::Descriptor& file, short type, std::int64_t byte) {
  struct flock lock{};  // l_pid must be 0
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = byte;
  lock.l_len = 1;
  return fcntl(file.number(), F_OFD_SETLK, &lock) == 0 ? 0 : errno;
}

/// Whether the name still stands for the open file.
bool is_current(const core::Descriptor& directory, const core::Descriptor& file) {
  struct stat opened{};
  struct stat named{};
  return fstat(file.number(), &opened) == 0 &&
         fstatat(directory.number(), KeyLock::kFileName, &named, AT_SYMLINK_NOFOLLOW) == 0 &&
         opened.st_dev == named.st_dev && opened.st_ino == named.st_ino;
}

}  // namespace

std::unique_ptr<KeyLock> KeyLock::acquire(const core::Descriptor& directory, const Key& key,
                                          milliseconds longest) {
  const Time::time_point deadline = Time::now() + longest;
  const std::int64_t byte = byte_of(key);
  milliseconds pause = kFirstPause;
  while (true) {
    core::Descriptor file(
        openat(directory.number(), kFileName, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (!file.valid()) return nullptr;
    int failed = set_lock(file, F_WRLCK, byte);
    while (failed == EAGAIN || failed == EACCES || failed == EINTR) {
      if (Time::now() >= deadline) return nullptr;
      std::this_thread::sleep_for(pause);
      pause = std::min(2 * pause, kLongestPause);
      failed = set_lock(file, F_WRLCK, byte);
    }
    if (failed != 0) return nullptr;
    if (is_current(directory, file)) return std::unique_ptr<KeyLock>(new KeyLock(std::move(file), byte));
    // The file was deleted meanwhile: others lock the new one.
    if (Time::now() >= deadline) return nullptr;
  }
}

// Unlocked by name, not by closing alone: a child that was forked meanwhile has the file open too.
KeyLock::~KeyLock() { set_lock(file_, F_UNLCK, byte_); }

}  // namespace lutsmith::cache
