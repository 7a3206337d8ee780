#include "runtime/kernel_loader.h"

#include <fmt/format.h>

#include <utility>

#include "core/result.h"

namespace lutsmith {

Result<const SharedKernel*> KernelLoader::get(const CurrentContext& context, const Request& request) {
  if (const SharedKernel* loaded = known(context, request)) {
    provider_.count_memory_hit();
    return loaded;
  }
  Result<const CurrentDevice*> gpu = device(context);
  if (!gpu) return failure(gpu);
  if (request.spec.target != (*gpu)->target) {
    return refuse(fmt::format("target: {} cannot run on the current GPU, which is {}; ask for that",
                              request.spec.target.name(), (*gpu)->target.name()));
  }
  return load(**gpu, request);
}

Result<const CurrentDevice*> KernelLoader::device(const CurrentContext& context) {
  if (const CurrentDevice* known = devices_.find(context.id)) return known;
  Result<CurrentDevice> asked = CurrentDevice::ask(context);
  if (!asked) return failure(asked);
  return devices_.insert_or_assign(context.id, *asked);
}

Result<const SharedKernel*> KernelLoader::load(const CurrentDevice& device, const Request& request) {
  Result<KernelProvider::Answer> answer = provider_.answer(request, &device.gpu);
  if (!answer) return failure(answer);
  Result<std::shared_ptr<const LoadedKernel>> loaded =
      LoadedKernel::load(device, request.spec, answer->result.choice, answer->result.artifact);
  if (!loaded && loaded.error().code == ErrorCode::corrupt_data &&
      answer->result.origin != Origin::compiled && may_make_anew(answer->result.artifact->key)) {
    provider_.forget(request, answer->result.artifact->key);
    answer = provider_.answer(request, &device.gpu);
    if (!answer) return failure(answer);
    loaded = LoadedKernel::load(device, request.spec, answer->result.choice, answer->result.artifact);
  }
  if (!loaded) return failure(loaded);
  return answer->known->keep_loaded(device.context.id, *loaded);
}

bool KernelLoader::may_make_anew(const std::string& key) {
  if (provider_.policy() == CompilePolicy::never) return false;
  const std::lock_guard lock(made_anew_mutex_);
  return made_anew_.insert(key).second;
}

}  // namespace lutsmith
