#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <utility>

#include "cache/key.h"
#include "cache/stores/store.h"
#include "core/descriptor.h"

namespace lutsmith::cache {

/// A lock between processes (and between threads): one byte of one file, whose place follows from the key.
/// Open-file-description locks of Linux: the kernel frees them when their holder dies, and the file is
/// never deleted, so that nobody can hold a lock on a file that others no longer see. (Should somebody else
/// delete it, the next to lock makes a new one; two may then make the same entry, which harms nothing.)
/// Two keys share a byte once in 2^60; the one then waits for the other.
class KeyLock final : public Claim {
 public:
  static constexpr const char* kFileName = "lock";

  /// Waits for the lock at most `longest`. Null where that was too long, or where the file system has no
  /// locks or cannot be written.
  static std::unique_ptr<KeyLock> acquire(const core::Descriptor& directory, const Key& key,
                                          std::chrono::milliseconds longest);
  ~KeyLock() override;

 private:
  KeyLock(core::Descriptor file, std::int64_t byte) : file_(std::move(file)), byte_(byte) {}

  core::Descriptor file_;
  std::int64_t byte_;
};

}  // namespace lutsmith::cache
