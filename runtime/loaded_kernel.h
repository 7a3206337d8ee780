#pragma once

#include <memory>

#include "lutsmith/service.h"
#include "runtime/driver.h"
#include "runtime/workspace_memory.h"

namespace lutsmith {

/// Checks what of a launch does not depend on the GPU: pointers, sizes, strides, the table's length.
/// The error names the field, the value and what is allowed.
Result<void> check_arguments(const KernelSpec& spec, const MatmulArguments& arguments);

/// A kernel in the memory of one GPU. Immutable, so launches from many threads are safe.
class LoadedKernel {
 public:
  /// Loads into the current context. Errors: the cubin is refused; more shared memory than the GPU has.
  static Result<std::shared_ptr<const LoadedKernel>> load(const cuda::Driver& driver, const KernelSpec& spec,
                                                          const Artifact& artifact);

  /// Partitions of a launch with `m` tokens; 0 where `m` cannot be launched.
  int default_partitions(std::int64_t m) const;
  /// Does no allocation, no synchronisation and no file access.
  Result<void> launch(const MatmulArguments& arguments, const WorkspaceMemory& workspace,
                      cuda::StreamHandle stream) const;

 private:
  LoadedKernel(const cuda::Driver& driver, const KernelSpec& spec, const LaunchRecipe& recipe)
      : driver_(driver), spec_(spec), recipe_(recipe) {}

  const cuda::Driver& driver_;
  KernelSpec spec_;
  LaunchRecipe recipe_;
  cuda::Module module_;
  cuda::FunctionHandle function_ = nullptr;
  cuda::ContextHandle context_ = nullptr;
  int multiprocessors_ = 0;
};

}  // namespace lutsmith
