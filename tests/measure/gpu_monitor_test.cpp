#include "measure/gpu_monitor.h"

#include <dlfcn.h>
#include <gtest/gtest.h>

#include <memory>
#include <stdexcept>
#include <string>
#include <utility>

#include "expect_error.h"
#include "fake_nvml.h"
#include "must.h"

namespace lutsmith::measure {
namespace {

using test::must;

/// The stand-in for NVML, in its first state while a test runs.
class GpuMonitorTest : public testing::Test {
 protected:
  GpuMonitorTest() {
    void* library = dlopen(FAKE_NVML, RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) throw std::runtime_error("no " FAKE_NVML);
    nvml_ = reinterpret_cast<decltype(&fake_nvml_state)>(dlsym(library, "fake_nvml_state"))();
    *nvml_ = {};
  }

  static GpuState state() { return must(open_nvml(FakeNvmlState::kAddress, FAKE_NVML))->state(); }

  FakeNvmlState* nvml_ = nullptr;
};

TEST_F(GpuMonitorTest, TellsWhatNvmlTellsInItsUnits) {
  const GpuState told = state();
  EXPECT_EQ(told.clock_mhz, 1980);
  EXPECT_EQ(told.memory_clock_mhz, 2619);
  EXPECT_EQ(told.power_watts, 350.5);
  EXPECT_EQ(told.temperature_celsius, 41);
  EXPECT_EQ(told.throttled_by, "");
  EXPECT_EQ(told.power_capped, false);
  EXPECT_EQ(told.other_processes, 0);
}

TEST_F(GpuMonitorTest, EachReasonForLowClocksIsWhatItIs) {
  struct Case {
    unsigned long long reasons;
    const char* throttled_by;
    bool power_capped;
  };
  for (const Case& each :
       {Case{0x0001, "", false},  // idle
        Case{0x0002, "", false},  // as the application set them
        Case{0x0004, "", true}, Case{0x0008, "hardware slowdown", false},
        Case{0x0010, "", false},  // as those of another GPU
        Case{0x0020, "thermal", false}, Case{0x0040, "thermal", false}, Case{0x0060, "thermal", false},
        Case{0x0080, "power brake", false}, Case{0x0100, "", false},  // as the display needs
        Case{0x00a4, "thermal, power brake", true}}) {
    nvml_->reasons = each.reasons;
    EXPECT_EQ(state().throttled_by, each.throttled_by) << each.reasons;
    EXPECT_EQ(state().power_capped, each.power_capped) << each.reasons;
  }
}

TEST_F(GpuMonitorTest, WhatTheGpuDoesNotTellIsNothing) {
  nvml_->reasons = 0x0004;
  nvml_->reasons_status = nvml_->power_status = 3;  // not supported
  const GpuState told = state();
  EXPECT_EQ(told.power_capped, std::nullopt);
  EXPECT_EQ(told.power_watts, std::nullopt);
  EXPECT_EQ(told.clock_mhz, 1980);
}

TEST_F(GpuMonitorTest, ThisProcessIsNotAmongTheOthers) {
  for (const auto& [all, others] : {std::pair(0U, 0), std::pair(1U, 0), std::pair(3U, 2)}) {
    nvml_->processes = all;
    EXPECT_EQ(state().other_processes, others);
  }
}

TEST_F(GpuMonitorTest, WithoutNvmlOrTheGpuThereIsNone) {
  expect_error(open_nvml(FakeNvmlState::kAddress, "/nonexistent/libnvidia-ml.so.1"), ErrorCode::not_found,
               "libnvidia-ml");
  expect_error(open_nvml("0000:99:00.0", FAKE_NVML), ErrorCode::driver_error, "0000:99:00.0");
  nvml_->init_status = 9;  // the driver is not loaded
  expect_error(open_nvml(FakeNvmlState::kAddress, FAKE_NVML), ErrorCode::driver_error, "NVML");
}

}  // namespace
}  // namespace lutsmith::measure
