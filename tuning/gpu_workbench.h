#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "lutsmith/service.h"
#include "measure/cuda_device.h"
#include "measure/gpu_monitor.h"
#include "measure/product.h"
#include "measure/streaming_floor.h"
#include "tuning/workbench.h"

namespace lutsmith::tuning {

/// The GPU of the current context, with kernels of a service.
class GpuWorkbench final : public Workbench {
 public:
  /// `service` must outlive it. `jobs`: kernels compiled at a time. Error, saying so, where there is no GPU that
  /// kernels can be made for.
  static Result<std::unique_ptr<GpuWorkbench>> open(Service& service, unsigned jobs);
  ~GpuWorkbench() override;

  const choices::Gpu& gpu() const override { return gpu_; }
  measure::Device& device() override { return *device_; }
  /// What names this one among GPUs of the same model, such as its PCI address.
  const std::string& address() const { return address_; }

  void compile_ahead(const KernelSpec& spec, std::span<const Schedule> schedules) override;
  Result<void> begin(const KernelSpec& spec) override;
  Result<void> make(const Schedule& schedule) override;
  Result<void> check(const Choice& choice) override;
  Result<measure::Contender> contender(const Choice& choice) override;
  Result<Bounds> bounds() override;
  choices::Conditions conditions() override;

 private:
  GpuWorkbench(Service& service, unsigned jobs, std::unique_ptr<measure::CudaDevice> device, choices::Gpu gpu,
               Workspace workspace, measure::StreamingFloor floor);
  Result<Kernel> kernel(const Schedule& schedule);
  Result<measure::Multiply> launcher(const Choice& choice);

  Service& service_;
  unsigned jobs_;
  std::unique_ptr<measure::CudaDevice> device_;
  choices::Gpu gpu_;
  std::string address_;
  std::unique_ptr<measure::GpuMonitor> monitor_;  ///< null without NVML
  Workspace workspace_;
  measure::StreamingFloor floor_;
  std::optional<measure::DenseProduct> dense_;  ///< nothing where cuBLAS is not installed

  KernelSpec spec_;
  std::unique_ptr<measure::RandomWeights> weights_;
  std::optional<measure::Product> product_;
  std::vector<std::pair<Schedule, Kernel>> kernels_;  ///< of the spec
};

}  // namespace lutsmith::tuning
