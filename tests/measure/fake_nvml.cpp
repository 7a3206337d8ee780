#include "fake_nvml.h"

#include <cstring>

#define FAKE extern "C" __attribute__((visibility("default")))

namespace {

lutsmith::FakeNvmlState state;
constexpr int kNotFound = 6;
constexpr unsigned kClockOfMemory = 2;

}  // namespace

FAKE lutsmith::FakeNvmlState* fake_nvml_state() { return &state; }

// NOLINTBEGIN(readability-identifier-naming): NVML's own names

FAKE int nvmlInit_v2() { return state.init_status; }
FAKE int nvmlDeviceGetHandleByPciBusId_v2(const char* address, void** device) {
  *device = &state;
  return std::strcmp(address, lutsmith::FakeNvmlState::kAddress) == 0 ? 0 : kNotFound;
}
FAKE int nvmlDeviceGetClockInfo(void*, unsigned type, unsigned* mhz) {
  *mhz = type == kClockOfMemory ? state.memory_clock_mhz : state.clock_mhz;
  return 0;
}
FAKE int nvmlDeviceGetPowerUsage(void*, unsigned* milliwatts) {
  *milliwatts = state.milliwatts;
  return state.power_status;
}
FAKE int nvmlDeviceGetTemperature(void*, unsigned, unsigned* celsius) {
  *celsius = state.celsius;
  return 0;
}
FAKE int nvmlDeviceGetCurrentClocksThrottleReasons(void*, unsigned long long* reasons) {
  *reasons = state.reasons;
  return state.reasons_status;
}
FAKE int nvmlDeviceGetComputeRunningProcesses_v3(void*, unsigned* count, void*) {
  *count = state.processes;
  return 0;
}

// NOLINTEND(readability-identifier-naming)
