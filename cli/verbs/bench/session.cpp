#include "cli/verbs/bench/session.h"

#include <fmt/format.h>

#include <utility>

#include "cli/open_service.h"
#include "core/result.h"

namespace lutsmith::cli {
namespace {

Error needs_gpu(const Error& reason) {
  return {reason.code == ErrorCode::invalid_argument ? ErrorCode::unsupported : reason.code,
          fmt::format("bench needs a GPU: {}; `lutsmith compile` works without one", reason.message),
          reason.context};
}

}  // namespace

BenchSession::BenchSession(std::unique_ptr<measure::CudaDevice> device, Target target, Service service,
                           Workspace workspace, measure::StreamingFloor floor)
    : device_(std::move(device)),
      target_(target),
      service_(std::move(service)),
      workspace_(std::move(workspace)),
      floor_(std::move(floor)) {}

Result<BenchSession> BenchSession::open() {
  Result<const cuda::Driver*> driver = cuda::Driver::open();
  if (!driver) return std::unexpected(needs_gpu(driver.error()));
  if (Result<cuda::ContextHandle> context = (*driver)->ensure_context(); !context) {
    return std::unexpected(needs_gpu(context.error()));
  }
  Result<std::unique_ptr<measure::CudaDevice>> device = measure::CudaDevice::open(**driver);
  if (!device) return failure(device);
  const cuda::DeviceFacts& gpu = (*device)->facts();
  Result<Target> target = Target::from_compute_capability(gpu.major, gpu.minor);
  if (!target) return std::unexpected(needs_gpu(target.error()));
  Result<Service> service = open_service();
  if (!service) return failure(service);
  Result<Workspace> workspace = service->create_workspace();
  if (!workspace) return failure(workspace);
  Result<std::vector<std::byte>> cubin = measure::compile_streaming_floor(*target);
  if (!cubin) return failure(cubin);
  Result<measure::StreamingFloor> floor =
      measure::StreamingFloor::create(**device, *cubin, target->traits().dependent_launch);
  if (!floor) return failure(floor);
  BenchSession session(std::move(*device), *target, std::move(*service), std::move(*workspace),
                       std::move(*floor));
  session.open_cublas();
  return session;
}

void BenchSession::open_cublas() {
  Result<measure::Cublas> cublas = measure::Cublas::open(*device_, measure::usual_cublas_places());
  if (cublas) {
    dense_.emplace(*device_, std::move(*cublas));
  } else {
    cublas_note_ = cublas.error().message;
  }
}

measure::Multiply BenchSession::launcher(const Kernel& kernel, int partitions) {
  return [this, &kernel, partitions](MatmulArguments arguments) {
    arguments.partitions = partitions;
    return kernel.launch(arguments, workspace_, device_->stream());
  };
}

}  // namespace lutsmith::cli
