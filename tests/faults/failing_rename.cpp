#include "failing_rename.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>

namespace {
std::atomic<int> wanted_error{0};
}

extern "C" __attribute__((visibility("default"))) int renameat(int from_directory, const char* from,
                                                               int to_directory, const char* to) noexcept {
  if (const int error = wanted_error; error != 0) {
    errno = error;
    return -1;
  }
  return static_cast<int>(syscall(SYS_renameat2, from_directory, from, to_directory, to, 0));
}

namespace lutsmith {

FailingRename::FailingRename(int error_number) { wanted_error = error_number; }
FailingRename::~FailingRename() { wanted_error = 0; }

}  // namespace lutsmith
