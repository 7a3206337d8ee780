#include "measure/gpu_setup.h"

#include <fmt/format.h>

#include <cstddef>
#include <utility>
#include <vector>

#include "core/result.h"

namespace lutsmith::measure {
namespace {

std::unexpected<Error> needs_gpu(const Error& reason) {
  return std::unexpected(
      Error{reason.code == ErrorCode::invalid_argument ? ErrorCode::unsupported : reason.code,
            fmt::format("measuring needs a GPU: {}", reason.message), reason.context});
}

}  // namespace

Result<GpuSetup> GpuSetup::open() {
  Result<const cuda::Driver*> driver = cuda::Driver::open();
  if (!driver) return needs_gpu(driver.error());
  if (Result<cuda::ContextHandle> context = (*driver)->ensure_context(); !context) {
    return needs_gpu(context.error());
  }
  Result<std::unique_ptr<CudaDevice>> device = CudaDevice::open(**driver);
  if (!device) return failure(device);
  const cuda::DeviceFacts& facts = (*device)->facts();
  const Result<Target> target = Target::from_compute_capability(facts.major, facts.minor);
  if (!target) return needs_gpu(target.error());
  Result<std::vector<std::byte>> cubin = compile_streaming_floor(*target);
  if (!cubin) return failure(cubin);
  Result<StreamingFloor> floor = StreamingFloor::create(**device, *cubin, target->traits().dependent_launch);
  if (!floor) return failure(floor);
  GpuSetup setup{.device = *std::move(device),
                 .target = *target,
                 .floor = *std::move(floor),
                 .dense = {},
                 .cublas_note = {}};
  Result<Cublas> cublas = Cublas::open(*setup.device, usual_cublas_places());
  if (cublas) {
    setup.dense.emplace(*setup.device, *std::move(cublas));
  } else {
    setup.cublas_note = std::move(cublas.error().message);
  }
  return setup;
}

}  // namespace lutsmith::measure
