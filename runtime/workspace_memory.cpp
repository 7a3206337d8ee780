#include "runtime/workspace_memory.h"

#include <algorithm>

#include "core/result.h"

namespace lutsmith {
namespace {

std::size_t counter_bytes(int counters) {
  constexpr std::size_t kAlignment = 256;
  const std::size_t bytes = static_cast<std::size_t>(counters) * sizeof(unsigned int);
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

}  // namespace

Result<WorkspaceMemory> WorkspaceMemory::allocate(const cuda::Driver& driver, const WorkspaceSize& size) {
  Result<cuda::ContextHandle> context = driver.ensure_context();
  if (!context) return failure(context);
  WorkspaceMemory workspace;
  workspace.context_ = *context;
  workspace.counters_ = size.arrival_counters;
  const std::size_t bytes = counter_bytes(size.arrival_counters) + size.partial_sum_bytes;
  Result<cuda::Buffer> buffer = cuda::Buffer::allocate(driver, bytes);
  if (!buffer) return failure(buffer);
  if (Result<void> zeroed = driver.set(buffer->address(), 0, bytes); !zeroed) return failure(zeroed);
  // The caller's streams need not wait for the default stream, so the zeros must be there now.
  if (Result<void> done = driver.synchronize(); !done) return failure(done);
  workspace.buffer_ = std::move(*buffer);
  return workspace;
}

int WorkspaceMemory::capacity(const WorkspaceSize& per_partition) const {
  const std::size_t sums = bytes() - counter_bytes(counters_);
  // A kernel without partial sums or counters has room for as many as it likes of those.
  const std::size_t bytes_each = std::max<std::size_t>(per_partition.partial_sum_bytes, 1);
  const int counters_each = std::max(per_partition.arrival_counters, 1);
  return static_cast<int>(std::min(sums / bytes_each, static_cast<std::size_t>(counters_ / counters_each)));
}

float* WorkspaceMemory::partial_sums() const {
  return reinterpret_cast<float*>(static_cast<std::byte*>(buffer_.data()) + counter_bytes(counters_));
}

}  // namespace lutsmith
