#pragma once

#include <string>
#include <utility>

#include "lutsmith/service.h"
#include "measure/gpu_setup.h"
#include "measure/product.h"

namespace lutsmith::cli {

/// The GPU, the service and what kernels are compared with: what all measurements of one run share.
class BenchSession {
 public:
  /// Errors: those of `measure::GpuSetup::open`, and of a service.
  static Result<BenchSession> open();

  const cuda::Driver& driver() const { return setup_.device->driver(); }
  const cuda::DeviceFacts& gpu() const { return setup_.device->facts(); }
  const Target& target() const { return setup_.target; }
  measure::Device& device() { return *setup_.device; }
  Service& service() { return service_; }
  const measure::StreamingFloor& floor() const { return setup_.floor; }
  /// Null where cuBLAS is not installed; `cublas_note` says why then.
  measure::DenseProduct* dense() { return setup_.dense ? &*setup_.dense : nullptr; }
  const measure::Cublas* cublas() const { return setup_.dense ? &setup_.dense->cublas() : nullptr; }
  const std::string& cublas_note() const { return setup_.cublas_note; }

  /// A kernel as something to be measured. The session and the kernel must outlive it.
  measure::Multiply launcher(const Kernel& kernel, int partitions);

 private:
  BenchSession(measure::GpuSetup setup, Service service, Workspace workspace)
      : setup_(std::move(setup)), service_(std::move(service)), workspace_(std::move(workspace)) {}

  measure::GpuSetup setup_;
  Service service_;
  Workspace workspace_;
};

}  // namespace lutsmith::cli
