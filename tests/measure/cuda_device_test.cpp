#include "measure/cuda_device.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <vector>

#include "measure/timing.h"
#include "must.h"
#include "stand_in.h"

namespace lutsmith::measure {
namespace {

using test::must;

/// What a measurement does with a device, on the stand-in for the driver.
Result<void> use_everything() {
  Result<std::unique_ptr<CudaDevice>> device = CudaDevice::open(StandIn::driver());
  if (!device) return std::unexpected(device.error());
  Result<std::unique_ptr<Memory>> memory = (*device)->allocate(64);
  if (!memory) return std::unexpected(memory.error());
  std::array<std::byte, 64> bytes{};
  Result<void> done = (*device)->write((*memory)->address(), bytes);
  if (done) done = (*device)->copy((*memory)->address(), (*memory)->address(), 32);
  if (done) done = (*device)->read(bytes, (*memory)->address());
  if (!done) return done;
  Result<std::unique_ptr<DeviceKernel>> kernel = (*device)->load(bytes, "kernel");
  if (!kernel) return std::unexpected(kernel.error());
  std::vector<std::byte> parameter(2048);
  void* parameters[] = {parameter.data()};
  std::vector<Contender> contenders(2);
  for (Contender& contender : contenders) {
    Result<Contender> made =
        make_contender(**device, "kernel", 3, [&](int) { return (*kernel)->launch({}, parameters); });
    if (!made) return std::unexpected(made.error());
    contender = std::move(*made);
  }
  const Result<std::vector<Statistics>> times =
      measure(**device, contenders, {.min_rounds = 1, .max_rounds = 1});
  if (!times) return std::unexpected(times.error());
  EXPECT_NEAR(times->front().median, 1500.0 / 3, 1e-6);
  return {};
}

TEST(CudaDevice, LaunchesGoToTheStreamThatIsRecordedAndTimed) {
  FakeDriverState& state = StandIn::state();
  const int launches = state.launches;
  const int replays = state.replays;
  must(use_everything());
  EXPECT_EQ(state.launches, launches + 6);
  EXPECT_NE(state.configuration.stream, nullptr);
  EXPECT_EQ(state.replays, replays + 3 * 3);
}

TEST(CudaDevice, EveryFailedCallOfTheDriverIsAnErrorAndLeavesNothingBehind) {
  FakeDriverState& state = StandIn::state();
  for (int call = 0;; ++call) {
    const int memory = state.allocations - state.frees;
    state.calls_to_failure = call;
    const Result<void> done = use_everything();
    const bool none_failed = state.calls_to_failure >= 0;
    state.calls_to_failure = -1;
    EXPECT_EQ(state.allocations - state.frees, memory) << call;
    EXPECT_EQ(state.living, 0) << call;
    if (none_failed) {
      EXPECT_TRUE(done.has_value());
      EXPECT_GT(call, 30);
      break;
    }
    ASSERT_FALSE(done.has_value()) << "the failure of call " << call << " was overlooked";
    EXPECT_THAT(done.error().message, testing::HasSubstr("failed with CUDA_ERROR_FAKE (2)"));
  }
}

TEST(CudaDevice, FactsAreThoseOfTheDriver) {
  EXPECT_EQ(must(CudaDevice::open(StandIn::driver()))->facts().multiprocessors, 132);
}

}  // namespace
}  // namespace lutsmith::measure
