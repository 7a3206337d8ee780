#include "cache/stores/key_lock.h"

#include <cstdint>
#include <string>

namespace lutsmith::cache {
namespace {

constexpr std::size_t kDigits = 15;  // 60 bits

std::int64_t byte_of(const Key& key) { return std::stoll(key.hex().substr(0, kDigits), nullptr, 16); }

}  // namespace

std::unique_ptr<KeyLock> KeyLock::acquire(const core::Descriptor& directory, const Key& key,
                                          std::chrono::milliseconds longest) {
  std::unique_ptr<core::FileLock> lock = core::FileLock::acquire(directory, kFileName, byte_of(key), longest);
  if (lock == nullptr) return nullptr;
  return std::unique_ptr<KeyLock>(new KeyLock(std::move(lock)));
}

}  // namespace lutsmith::cache
