#include "runtime/workspace_memory.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>

#include "core/result.h"

namespace lutsmith {
namespace {

constexpr std::size_t kAlignment = 256;

std::size_t counter_bytes(int counters) {
  const std::size_t bytes = static_cast<std::size_t>(counters) * sizeof(unsigned int);
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

}  // namespace

std::size_t WorkspaceMemory::bytes_for(const WorkspaceSize& size) {
  return counter_bytes(size.arrival_counters) + size.partial_sum_bytes;
}

Result<WorkspaceMemory> WorkspaceMemory::allocate(const cuda::Driver& driver, const WorkspaceSize& size) {
  Result<cuda::ContextHandle> context = driver.ensure_context();
  if (!context) return failure(context);
  WorkspaceMemory workspace;
  workspace.context_ = *context;
  workspace.counters_ = size.arrival_counters;
  const std::size_t bytes = bytes_for(size);
  Result<cuda::Buffer> buffer = cuda::Buffer::allocate(driver, bytes);
  if (!buffer) return failure(buffer);
  if (Result<void> zeroed = driver.set(buffer->address(), 0, bytes); !zeroed) return failure(zeroed);
  // The caller's streams need not wait for the default stream, so the zeros must be there now.
  if (Result<void> done = driver.synchronize(); !done) return failure(done);
  workspace.buffer_ = std::move(*buffer);
  workspace.memory_ = workspace.buffer_.data();
  workspace.bytes_ = bytes;
  return workspace;
}

Result<WorkspaceMemory> WorkspaceMemory::over(cuda::ContextHandle context, void* memory, std::size_t bytes,
                                              const WorkspaceSize& size) {
  if (memory == nullptr || reinterpret_cast<std::uintptr_t>(memory) % kAlignment != 0) {
    return refuse(
        fmt::format("memory: {} is not allowed; give device memory aligned to {} bytes", memory, kAlignment));
  }
  if (bytes < bytes_for(size)) {
    return refuse(fmt::format("bytes: {} are too few for a workspace on this GPU, which takes {}", bytes,
                              bytes_for(size)));
  }
  WorkspaceMemory workspace;
  workspace.context_ = context;
  workspace.counters_ = size.arrival_counters;
  workspace.memory_ = memory;
  workspace.bytes_ = bytes;
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
  return reinterpret_cast<float*>(static_cast<std::byte*>(memory_) + counter_bytes(counters_));
}

}  // namespace lutsmith
