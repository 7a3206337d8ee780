#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "lutsmith/error.h"

namespace lutsmith::measure {

/// What a GPU is doing besides what it was asked to. A value is nothing where the GPU does not tell it.
struct GpuState {
  std::optional<double> clock_mhz;  ///< of the multiprocessors
  std::optional<double> memory_clock_mhz;
  std::optional<double> power_watts;
  std::optional<double> temperature_celsius;
  /// Why the clocks are below what they could be, separated by commas: "thermal, power brake". Empty: they
  /// are not, or only because the GPU has nothing to do or was set so.
  std::string throttled_by = {};
  /// Whether the clocks are below what they could be because the GPU would draw more power than it may. Under
  /// large products that is how it always works: no fault, but times that depend on the limit.
  std::optional<bool> power_capped;
  std::optional<int> other_processes;  ///< that use the GPU, this one not counted
};

/// Tells the state of one GPU. For one thread at a time.
class GpuMonitor {
 public:
  GpuMonitor() = default;
  GpuMonitor(const GpuMonitor&) = delete;
  GpuMonitor& operator=(const GpuMonitor&) = delete;
  virtual ~GpuMonitor() = default;

  virtual GpuState state() const = 0;
};

/// By NVML, which comes with the driver and is opened at run time. `pci_address` as the driver tells it:
/// "0000:1b:00.0"; `library` is for tests. Errors: not_found where there is no NVML, driver_error where it
/// does not know the GPU.
Result<std::unique_ptr<GpuMonitor>> open_nvml(const std::string& pci_address,
                                              const std::string& library = "libnvidia-ml.so.1");

}  // namespace lutsmith::measure
