#include "runtime/current_device.h"

#include <utility>

#include "core/result.h"

namespace lutsmith {

Result<CurrentContext> CurrentContext::ask(const cuda::Driver& driver) {
  Result<cuda::ContextHandle> handle = driver.ensure_context();
  if (!handle) return failure(handle);
  Result<std::uint64_t> id = driver.context_id(*handle);
  if (!id) return failure(id);
  // In place: a copy would wait for its own stores, every request.
  return Result<CurrentContext>(std::in_place, &driver, *handle, *id);
}

Result<CurrentDevice> CurrentDevice::ask(const CurrentContext& context) {
  Result<cuda::DeviceHandle> device = context.driver->current_device();
  if (!device) return failure(device);
  CurrentDevice facts{.context = context, .target = {}, .gpu = {}};
  int major = 0;
  int minor = 0;
  const std::pair<cuda::DeviceAttribute, int*> attributes[] = {
      {cuda::DeviceAttribute::compute_capability_major, &major},
      {cuda::DeviceAttribute::compute_capability_minor, &minor},
      {cuda::DeviceAttribute::multiprocessors, &facts.multiprocessors},
      {cuda::DeviceAttribute::shared_bytes_per_block_optin, &facts.shared_bytes_per_block},
  };
  for (const auto& [which, value] : attributes) {
    Result<int> read = context.driver->attribute(*device, which);
    if (!read) return failure(read);
    *value = *read;
  }
  Result<Target> target = Target::from_compute_capability(major, minor);
  if (!target) return failure(target);
  facts.target = *target;
  Result<std::string> name = context.driver->device_name(*device);
  if (!name) return failure(name);
  facts.gpu = {.name = *std::move(name), .multiprocessors = facts.multiprocessors, .target = *target};
  return facts;
}

}  // namespace lutsmith
