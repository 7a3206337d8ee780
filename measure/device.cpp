#include "measure/device.h"

#include "core/result.h"

namespace lutsmith::measure {

Result<void> reserve(Device& device, std::unique_ptr<Memory>& memory, std::size_t bytes) {
  if (memory != nullptr && memory->bytes() >= bytes) return {};
  memory.reset();
  Result<std::unique_ptr<Memory>> larger = device.allocate(bytes);
  if (!larger) return failure(larger);
  memory = std::move(*larger);
  return {};
}

}  // namespace lutsmith::measure
