#include "runtime/workspace_memory.h"

#include <algorithm>

#include "core/result.h"

namespace lutsmith {
namespace {

constexpr int kBlocksPerMultiprocessor = 4;
constexpr std::size_t kSlots = 2;
constexpr std::size_t kLargestPartialBytes = kSlots * 32 * 16 * sizeof(float);  // tile of 32 rows x 16 tokens
constexpr std::size_t kSmallestPartialBytes = kSlots * 16 * 1 * sizeof(float);
constexpr int kCountersPerLargest = kLargestPartialBytes / kSmallestPartialBytes;

std::size_t counter_bytes(int counters) {
  constexpr std::size_t kAlignment = 256;
  const std::size_t bytes = static_cast<std::size_t>(counters) * sizeof(unsigned int);
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

}  // namespace

int WorkspaceMemory::default_partitions(int multiprocessors) {
  return kBlocksPerMultiprocessor * multiprocessors;
}

Result<WorkspaceMemory> WorkspaceMemory::allocate(const cuda::Driver& driver, int partitions) {
  Result<cuda::ContextHandle> context = driver.ensure_context();
  if (!context) return failure(context);
  WorkspaceMemory workspace;
  workspace.context_ = *context;
  workspace.counters_ = partitions * kCountersPerLargest;
  const std::size_t bytes =
      counter_bytes(workspace.counters_) + static_cast<std::size_t>(partitions) * kLargestPartialBytes;
  Result<cuda::Buffer> buffer = cuda::Buffer::allocate(driver, bytes);
  if (!buffer) return failure(buffer);
  if (Result<void> zeroed = driver.set(buffer->address(), 0, bytes); !zeroed) return failure(zeroed);
  // The caller's streams need not wait for the default stream, so the zeros must be there now.
  if (Result<void> done = driver.synchronize(); !done) return failure(done);
  workspace.buffer_ = std::move(*buffer);
  return workspace;
}

int WorkspaceMemory::capacity(std::size_t partial_bytes) const {
  const std::size_t sums = bytes() - counter_bytes(counters_);
  return static_cast<int>(std::min(sums / partial_bytes, static_cast<std::size_t>(counters_)));
}

float* WorkspaceMemory::partial_sums() const {
  return reinterpret_cast<float*>(static_cast<std::byte*>(buffer_.data()) + counter_bytes(counters_));
}

}  // namespace lutsmith
