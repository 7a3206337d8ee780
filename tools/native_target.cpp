#include <fmt/format.h>

#include "runtime/driver.h"
#include "spec_request.h"

namespace lutsmith::tools {

Result<Target> native_target() {
  const auto refuse = [](const Error& error) {
    std::string known;
    for (const TargetTraits& traits : Target::all()) known += fmt::format(" {}", traits.name);
    return std::unexpected(Error{
        ErrorCode::invalid_argument,
        fmt::format(
            "target: there is no GPU to take 'native' from; give --target, such as --target sm_90a ({})",
            error.message),
        fmt::format("known targets:{}{}{}", known, error.context.empty() ? "" : "\n", error.context)});
  };
  const auto driver = cuda::Driver::open();
  if (!driver) return refuse(driver.error());
  const auto device = (*driver)->device(0);
  if (!device) return refuse(device.error());
  return Target::from_compute_capability(device->major, device->minor);
}

}  // namespace lutsmith::tools
