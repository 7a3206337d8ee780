#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string>

#include "runtime/current_device.h"
#include "runtime/kernel_provider.h"
#include "runtime/loaded_kernel.h"
#include "runtime/read_mostly_map.h"

namespace lutsmith {

/// Finds or makes kernels loaded in the current CUDA context. A kernel that the driver refuses though its
/// entry is intact is made anew once; refused again, it is an error. Thread-safe.
class KernelLoader {
 public:
  /// `provider` must outlive it.
  explicit KernelLoader(KernelProvider& provider) : provider_(provider) {}

  /// What was loaded for the request before; null: nothing yet. Apart from `get`, so that the way of a warm
  /// request is short: sixteen threads on eight cores feel each instruction.
  const SharedKernel* known(const CurrentContext& context, const Request& request) const {
    const KnownKernel* kernel = provider_.known(request);
    return kernel != nullptr ? kernel->loaded_in(context.id) : nullptr;
  }

  /// What it points to lives as long as the provider. Errors: those of the provider; invalid_argument where
  /// the GPU is not the request's target; those of LoadedKernel::load.
  Result<const SharedKernel*> get(const CurrentContext& context, const Request& request);

  /// The GPU of the current context; asked of the driver once for each context.
  Result<const CurrentDevice*> device(const CurrentContext& context);

 private:
  Result<const SharedKernel*> load(const CurrentDevice& device, const Request& request);
  /// Once for each key, where compiling is allowed.
  bool may_make_anew(const std::string& key);

  KernelProvider& provider_;
  ReadMostlyMap<std::uint64_t, CurrentDevice, std::hash<std::uint64_t>> devices_;  ///< by context
  std::mutex made_anew_mutex_;
  std::set<std::string> made_anew_;  ///< keys of kernels that the driver refused
};

}  // namespace lutsmith
