#pragma once

namespace lutsmith {

/// What the stand-in for NVML tells of its one GPU, at FakeNvmlState::kAddress. A status that is not 0 is an
/// error.
struct FakeNvmlState {
  static constexpr const char* kAddress = "0000:1b:00.0";

  int init_status = 0;
  unsigned clock_mhz = 1980;
  unsigned memory_clock_mhz = 2619;
  unsigned milliwatts = 350'500;
  int power_status = 0;
  unsigned celsius = 41;
  unsigned long long reasons = 0;  ///< nvmlClocksEventReasons
  int reasons_status = 0;
  unsigned processes = 0;
};

}  // namespace lutsmith

extern "C" lutsmith::FakeNvmlState* fake_nvml_state();
