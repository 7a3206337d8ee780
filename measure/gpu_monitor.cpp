#include "measure/gpu_monitor.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <utility>
#include <vector>

#include "core/result.h"
#include "core/shared_library.h"

namespace lutsmith::measure {
namespace {

// The part of nvml.h that is used (NVML API Reference, "Device Queries"), in its own numbering.
using Handle = void*;
using Status = int;
constexpr Status kSuccess = 0;
constexpr Status kInsufficientSize = 7;
constexpr unsigned kClockOfMultiprocessors = 1;
constexpr unsigned kClockOfMemory = 2;
constexpr unsigned kSensorOfGpu = 0;

struct ProcessInfo {
  unsigned pid;
  unsigned long long used_bytes;
  unsigned gpu_instance;
  unsigned compute_instance;
};

struct Api {
  Status (*init)();
  Status (*by_address)(const char* address, Handle* device);
  Status (*clock)(Handle device, unsigned type, unsigned* mhz);
  Status (*power)(Handle device, unsigned* milliwatts);
  Status (*temperature)(Handle device, unsigned sensor, unsigned* celsius);
  Status (*throttle_reasons)(Handle device, unsigned long long* reasons);
  Status (*processes)(Handle device, unsigned* count, ProcessInfo* infos);
};

// Of the reasons for the present clocks (nvmlClocksEventReasons), one bit each.
constexpr std::uint64_t kSoftwarePowerCap = 0x0004;
/// Those that make a measurement worthless: the clock was taken away from a GPU that had work.
constexpr std::pair<std::uint64_t, std::string_view> kReasons[] = {
    {0x0008, "hardware slowdown"}, {0x0020, "thermal"}, {0x0040, "thermal"}, {0x0080, "power brake"}};

class Nvml final : public GpuMonitor {
 public:
  Nvml(const Api& api, Handle device) : api_(api), device_(device) {}

  GpuState state() const override {
    GpuState state;
    unsigned value = 0;
    if (api_.clock(device_, kClockOfMultiprocessors, &value) == kSuccess) state.clock_mhz = value;
    if (api_.clock(device_, kClockOfMemory, &value) == kSuccess) state.memory_clock_mhz = value;
    constexpr double kMilliwatts = 1000;
    if (api_.power(device_, &value) == kSuccess) state.power_watts = value / kMilliwatts;
    if (api_.temperature(device_, kSensorOfGpu, &value) == kSuccess) state.temperature_celsius = value;
    unsigned long long reasons = 0;
    if (api_.throttle_reasons(device_, &reasons) == kSuccess) {
      state.throttled_by = throttled_by(reasons);
      state.power_capped = (reasons & kSoftwarePowerCap) != 0;
    }
    state.other_processes = other_processes();
    return state;
  }

 private:
  static std::string throttled_by(std::uint64_t bits) {
    std::vector<std::string_view> reasons;
    for (const auto& [bit, name] : kReasons) {
      if ((bits & bit) != 0 && std::ranges::find(reasons, name) == reasons.end()) reasons.push_back(name);
    }
    return fmt::format("{}", fmt::join(reasons, ", "));
  }

  std::optional<int> other_processes() const {
    std::array<ProcessInfo, 64> infos{};
    auto count = static_cast<unsigned>(infos.size());
    const Status status = api_.processes(device_, &count, infos.data());
    if (status == kInsufficientSize) return static_cast<int>(count);
    if (status != kSuccess) return std::nullopt;
    const auto mine = static_cast<unsigned>(getpid());
    // In a container a process is not told its own number outside: then one of them is taken for this one.
    const bool seen = std::ranges::any_of(std::span(infos).first(count),
                                          [mine](const ProcessInfo& info) { return info.pid == mine; });
    const int others = static_cast<int>(count) - (seen || count > 0 ? 1 : 0);
    return std::max(others, 0);
  }

  Api api_;
  Handle device_;
};

}  // namespace

Result<std::unique_ptr<GpuMonitor>> open_nvml(const std::string& pci_address, const std::string& library) {
  Result<core::SharedLibrary> opened = core::SharedLibrary::open(library);
  if (!opened) return failure(opened);
  Api api{};
  opened->load("nvmlInit_v2", api.init);
  opened->load("nvmlDeviceGetHandleByPciBusId_v2", api.by_address);
  opened->load("nvmlDeviceGetClockInfo", api.clock);
  opened->load("nvmlDeviceGetPowerUsage", api.power);
  opened->load("nvmlDeviceGetTemperature", api.temperature);
  opened->load("nvmlDeviceGetCurrentClocksThrottleReasons", api.throttle_reasons);
  opened->load("nvmlDeviceGetComputeRunningProcesses_v3", api.processes);
  if (Result<void> complete = opened->complete(); !complete) return failure(complete);
  Handle device = nullptr;
  if (api.init() != kSuccess || api.by_address(pci_address.c_str(), &device) != kSuccess) {
    return std::unexpected(
        Error{ErrorCode::driver_error, fmt::format("NVML does not know the GPU at {}", pci_address), ""});
  }
  return std::make_unique<Nvml>(api, device);
}

}  // namespace lutsmith::measure
