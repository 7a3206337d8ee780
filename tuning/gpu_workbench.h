#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "lutsmith/service.h"
#include "measure/gpu_monitor.h"
#include "measure/gpu_setup.h"
#include "measure/product.h"
#include "tuning/workbench.h"

namespace lutsmith::tuning {

/// The GPU of the current context, with kernels of a service.
class GpuWorkbench final : public Workbench {
 public:
  /// `service` must outlive it. `jobs`: kernels compiled at a time. Errors: those of
  /// `measure::GpuSetup::open`, and of the service.
  static Result<std::unique_ptr<GpuWorkbench>> open(Service& service, unsigned jobs);
  ~GpuWorkbench() override;

  const choices::Gpu& gpu() const override { return gpu_; }
  measure::Device& device() override { return *setup_.device; }
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
  GpuWorkbench(Service& service, unsigned jobs, measure::GpuSetup setup, Workspace workspace);
  Result<Kernel> kernel(const Schedule& schedule);
  Result<measure::Multiply> launcher(const Choice& choice);

  Service& service_;
  unsigned jobs_;
  measure::GpuSetup setup_;
  choices::Gpu gpu_;
  std::string address_;
  std::unique_ptr<measure::GpuMonitor> monitor_;  ///< null without NVML
  Workspace workspace_;

  KernelSpec spec_;
  std::unique_ptr<measure::RandomWeights> weights_;
  std::optional<measure::Product> product_;
  std::vector<std::pair<Schedule, Kernel>> kernels_;  ///< of the spec
};

}  // namespace lutsmith::tuning
