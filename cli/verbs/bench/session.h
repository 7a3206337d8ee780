#pragma once

#include <memory>
#include <optional>
#include <string>

#include "lutsmith/service.h"
#include "measure/cuda_device.h"
#include "measure/product.h"
#include "measure/streaming_floor.h"

namespace lutsmith::cli {

/// The GPU, the service and what kernels are compared with: what all measurements of one run share.
class BenchSession {
 public:
  /// Error, saying so, where there is no GPU that kernels can be made for.
  static Result<BenchSession> open();

  const cuda::Driver& driver() const { return device_->driver(); }
  const cuda::DeviceFacts& gpu() const { return device_->facts(); }
  const Target& target() const { return target_; }
  measure::Device& device() { return *device_; }
  Service& service() { return service_; }
  const measure::StreamingFloor& floor() const { return floor_; }
  /// Null where cuBLAS is not installed; `cublas_note` says why then.
  measure::DenseProduct* dense() { return dense_ ? &*dense_ : nullptr; }
  const measure::Cublas* cublas() const { return dense_ ? &dense_->cublas() : nullptr; }
  const std::string& cublas_note() const { return cublas_note_; }

  /// A kernel as something to be measured. The session and the kernel must outlive it.
  measure::Multiply launcher(const Kernel& kernel, int partitions);

 private:
  BenchSession(std::unique_ptr<measure::CudaDevice> device, Target target, Service service,
               Workspace workspace, measure::StreamingFloor floor);
  void open_cublas();

  std::unique_ptr<measure::CudaDevice> device_;
  Target target_;
  Service service_;
  Workspace workspace_;
  measure::StreamingFloor floor_;
  std::optional<measure::DenseProduct> dense_;
  std::string cublas_note_;
};

}  // namespace lutsmith::cli
