#include <fmt/format.h>

#include "cli/options/spec_request.h"
#include "core/result.h"
#include "runtime/driver.h"

namespace lutsmith::cli {

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

}  // namespace lutsmith::cli
