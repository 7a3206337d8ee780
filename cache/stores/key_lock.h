#pragma once

#include <chrono>
#include <memory>
#include <utility>

#include "cache/key.h"
#include "cache/stores/store.h"
#include "core/descriptor.h"
#include "core/file_lock.h"

namespace lutsmith::cache {

/// A lock between processes (and between threads): one byte of one file, whose place follows from the key.
/// Two keys share a byte once in 2^60; the one then waits for the other. Should somebody delete the file, two
/// may make the same entry, which harms nothing.
class KeyLock final : public Claim {
 public:
  static constexpr const char* kFileName = "lock";

  /// Waits for the lock at most `longest`. Null where that was too long, or where the file system has no
  /// locks or cannot be written.
  static std::unique_ptr<KeyLock> acquire(const core::Descriptor& directory, const Key& key,
                                          std::chrono::milliseconds longest);

 private:
  explicit KeyLock(std::unique_ptr<core::FileLock> lock) : lock_(std::move(lock)) {}

  std::unique_ptr<core::FileLock> lock_;
};

}  // namespace lutsmith::cache
