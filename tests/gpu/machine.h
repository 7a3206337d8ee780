#pragma once

#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <vector>

#include "lutsmith/lutsmith.h"
#include "must.h"
#include "runtime/driver.h"

namespace lutsmith::gpu_test {

using namespace test;

/// The GPU and what all tests of the process share.
struct Machine {
  const cuda::Driver* driver = nullptr;
  cuda::DeviceFacts facts;
  Target target;
  Service service;  ///< keeps kernels in memory only
};

/// Errors only where there is no driver or no GPU; throws where a GPU is there but cannot be used.
Result<Machine>& machine();

/// One kernel that a test wants.
struct KernelRequest {
  KernelSpec spec;
  std::optional<Schedule> schedule;
};

/// Compiles on all cores what a test is going to ask for, so that its `get_kernel` calls are quick.
/// Failures are not reported here: `get_kernel` meets them again.
void precompile(const std::vector<KernelRequest>& requests);

Kernel get_kernel(const KernelRequest& request);

/// Text for SCOPED_TRACE: which kernel a failed expectation was about.
std::string describe(const KernelRequest& request);

/// A spec for this GPU.
KernelSpec spec_of(int bits, int group, std::int64_t n, std::int64_t k, std::int64_t m = 1,
                   DataType dtype = DataType::f16, TableKind table = TableKind::scalar);

/// Of the schedules given, those that are allowed for a spec on this GPU.
std::vector<Schedule> allowed(const KernelSpec& spec, const std::vector<Schedule>& schedules);

/// The base of all GPU tests.
class GpuTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!machine()) GTEST_SKIP() << "no GPU: " << machine().error().message;
    must(machine()->driver->ensure_context());
  }
};

}  // namespace lutsmith::gpu_test
