#include "measure/rotation.h"

#include <algorithm>

namespace lutsmith::measure {
namespace {

constexpr std::size_t kL2Multiple = 5;
constexpr int kMinLaunches = 20;
constexpr std::size_t kMaxSets = 512;
constexpr std::size_t kAlignment = 1024;

// Of the device's memory, for the packed and for the dense weights each; rotations seldom need as much.
constexpr std::size_t kMemoryShare = 4;
constexpr std::size_t kLargestPool = std::size_t{8} << 30;

}  // namespace

Rotation make_rotation(std::size_t bytes, std::size_t l2_bytes, std::size_t memory_limit) {
  Rotation rotation;
  rotation.stride = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  const std::size_t enough = kL2Multiple * l2_bytes / rotation.stride + 1;
  const std::size_t fit = std::max<std::size_t>(1, memory_limit / rotation.stride);
  // Two at least: with one, each launch would read what the one before it has just left in the cache.
  const std::size_t sets = std::min({std::max<std::size_t>(2, enough), fit, kMaxSets});
  rotation.sets = static_cast<int>(sets);
  rotation.launches = std::max(kMinLaunches, rotation.sets);
  return rotation;
}

Rotation RotatingPool::plan(std::size_t bytes) const {
  const cuda::DeviceFacts& facts = device_->facts();
  return make_rotation(bytes, static_cast<std::size_t>(facts.l2_bytes),
                       std::min(kLargestPool, facts.memory_bytes / kMemoryShare));
}

Result<void> RotatingPool::load(std::span<const std::byte> data) {
  rotation_ = plan(data.size());
  Result<void> loaded = reserve(*device_, memory_, rotation_.pool_bytes());
  if (loaded) loaded = device_->write(memory_->address(), data);
  if (loaded) loaded = repeat(rotation_.stride, rotation_.pool_bytes());
  return loaded;
}

Result<void> RotatingPool::load_repeated(std::span<const std::byte> pattern, std::size_t bytes) {
  rotation_ = plan(bytes);
  const std::size_t whole = std::max(rotation_.pool_bytes(), pattern.size());
  Result<void> loaded = reserve(*device_, memory_, whole);
  if (loaded) loaded = device_->write(memory_->address(), pattern);
  if (loaded) loaded = repeat(pattern.size(), whole);
  return loaded;
}

// Repeats the first `filled` bytes over `bytes`; each copy doubles what is there.
Result<void> RotatingPool::repeat(std::size_t filled, std::size_t bytes) {
  while (filled < bytes) {
    const std::size_t count = std::min(filled, bytes - filled);
    Result<void> copied = device_->copy(memory_->address() + filled, memory_->address(), count);
    if (!copied) return copied;
    filled += count;
  }
  return device_->synchronize();
}

}  // namespace lutsmith::measure
