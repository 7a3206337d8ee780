#include "cli/verbs/bench/session.h"

#include <utility>

#include "cli/open_service.h"
#include "core/result.h"

namespace lutsmith::cli {

Result<BenchSession> BenchSession::open() {
  Result<measure::GpuSetup> setup = measure::GpuSetup::open();
  if (!setup) return failure(setup);
  Result<Service> service = open_service();
  if (!service) return failure(service);
  Result<Workspace> workspace = service->create_workspace();
  if (!workspace) return failure(workspace);
  return BenchSession(*std::move(setup), *std::move(service), *std::move(workspace));
}

measure::Multiply BenchSession::launcher(const Kernel& kernel, int partitions) {
  return [this, &kernel, partitions](MatmulArguments arguments) {
    arguments.partitions = partitions;
    return kernel.launch(arguments, workspace_, setup_.device->stream());
  };
}

}  // namespace lutsmith::cli
