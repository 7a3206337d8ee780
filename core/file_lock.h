#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "core/descriptor.h"

namespace lutsmith::core {

/// A lock between processes (and between threads): one byte of a file in a directory. Open-file-description
/// locks of Linux: the kernel frees them when their holder dies, and the file is never deleted, so that
/// nobody can hold a lock on a file that others no longer see. (Should somebody else delete it, the next to
/// lock makes a new one.)
class FileLock {
 public:
  /// Waits for the lock at most `longest`. Null where that was too long (`timed_out` tells, where given), or
  /// where the file system has no locks or cannot be written.
  static std::unique_ptr<FileLock> acquire(const Descriptor& directory, const std::string& name,
                                           std::int64_t byte, std::chrono::milliseconds longest,
                                           bool* timed_out = nullptr);
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;
  ~FileLock();

 private:
  FileLock(Descriptor file, std::int64_t byte) : file_(std::move(file)), byte_(byte) {}

  Descriptor file_;
  std::int64_t byte_;
};

}  // namespace lutsmith::core
