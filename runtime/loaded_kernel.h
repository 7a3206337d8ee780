#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "lutsmith/service.h"
#include "runtime/current_device.h"
#include "runtime/driver.h"
#include "runtime/workspace_memory.h"

namespace lutsmith {

/// A kernel in the memory of one GPU. Immutable, so launches from many threads are safe.
class LoadedKernel {
 public:
  /// Loads into the current context. Errors: the cubin is refused; more shared memory than the GPU has.
  static Result<std::shared_ptr<const LoadedKernel>> load(const CurrentDevice& device, const KernelSpec& spec,
                                                          const Choice& choice,
                                                          std::shared_ptr<const Artifact> artifact);

  const KernelSpec& spec() const { return spec_; }
  const Choice& choice() const { return choice_; }
  const Schedule& schedule() const { return choice_.schedule; }
  const Artifact& artifact() const { return *artifact_; }
  /// Partitions of a launch with `m` tokens; 0 where `m` cannot be launched.
  int default_partitions(std::int64_t m) const;
  /// `tokens` where the arguments name no number. Does no allocation, no synchronisation and no file access.
  Result<void> launch(const MatmulArguments& arguments, std::int64_t tokens, const WorkspaceMemory& workspace,
                      cuda::StreamHandle stream) const;

 private:
  int wanted_partitions(std::int64_t tokens) const;
  LoadedKernel(const CurrentDevice& device, const KernelSpec& spec, const Choice& choice,
               std::shared_ptr<const Artifact> artifact)
      : driver_(*device.context.driver),
        spec_(spec),
        choice_(choice),
        artifact_(std::move(artifact)),
        recipe_(artifact_->launch),
        context_(device.context.handle),
        multiprocessors_(device.multiprocessors) {}

  const cuda::Driver& driver_;
  KernelSpec spec_;
  Choice choice_;
  std::shared_ptr<const Artifact> artifact_;
  const LaunchRecipe& recipe_;
  std::vector<cuda::LaunchAttribute> attributes_;
  std::size_t packed_bytes_ = 0;
  cuda::Module module_;
  cuda::FunctionHandle function_ = nullptr;
  cuda::ContextHandle context_;
  int multiprocessors_;
};

}  // namespace lutsmith
