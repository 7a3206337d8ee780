#pragma once

#include <cstddef>

#include "lutsmith/codegen.h"
#include "lutsmith/error.h"
#include "runtime/driver.h"

namespace lutsmith {

/// Device memory that kernels of one stream share for their partial sums.
///
///   | arrival counters, zero between launches | partial sums |
///   0                                         partial_sums_offset
///
/// The counters stand at a fixed place that no kernel's partial sums reach: kernels of different tile
/// sizes use one workspace after each other, and each must find its counters zero.
class WorkspaceMemory {
 public:
  /// Zeroed on return.
  static Result<WorkspaceMemory> allocate(const cuda::Driver& driver, const WorkspaceSize& size);

  static std::size_t bytes_for(const WorkspaceSize& size);
  /// Over memory of the caller's, which is zero before the first launch. Error: invalid_argument where it is
  /// too small or not aligned.
  static Result<WorkspaceMemory> over(cuda::ContextHandle context, void* memory, std::size_t bytes,
                                      const WorkspaceSize& size);

  std::size_t bytes() const { return bytes_; }
  cuda::ContextHandle context() const { return context_; }

  /// Partitions of a kernel that needs so much for each.
  int capacity(const WorkspaceSize& per_partition) const;
  unsigned int* arrivals() const { return static_cast<unsigned int*>(memory_); }
  float* partial_sums() const;

 private:
  cuda::Buffer buffer_;  ///< empty where the memory is the caller's
  void* memory_ = nullptr;
  std::size_t bytes_ = 0;
  cuda::ContextHandle context_ = nullptr;
  int counters_ = 0;
};

}  // namespace lutsmith
