#include "runtime/driver.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>

#include "fake_driver.h"
#include "stand_in.h"

namespace lutsmith {
namespace {

using testing::HasSubstr;

TEST(Driver, MissingLibraryIsAnErrorThatNamesWhatWasTried) {
  const std::array<std::string_view, 2> names = {"liblutsmith-no-driver.so.1", "/nonexistent/libcuda.so.1"};
  const auto loaded = cuda::Driver::load(names);
  ASSERT_FALSE(loaded.has_value());
  EXPECT_EQ(loaded.error().code, ErrorCode::not_found);
  EXPECT_THAT(loaded.error().message, HasSubstr("liblutsmith-no-driver.so.1, /nonexistent/libcuda.so.1"));
  EXPECT_THAT(loaded.error().message, HasSubstr("install an NVIDIA driver"));
}

TEST(Driver, LibraryWithoutAnEntryPointIsNamedAsTooOld) {
  const std::array<std::string_view, 1> names = {"libc.so.6"};
  const auto loaded = cuda::Driver::load(names);
  ASSERT_FALSE(loaded.has_value());
  EXPECT_EQ(loaded.error().code, ErrorCode::unsupported);
  EXPECT_THAT(loaded.error().message, HasSubstr("cuInit"));
}

TEST(Driver, DriverBefore12IsRefusedWithItsVersion) {
  StandIn::state().version = 11080;
  const std::array<std::string_view, 1> names = {FAKE_DRIVER};
  const auto loaded = cuda::Driver::load(names);
  StandIn::state().version = 13000;
  ASSERT_FALSE(loaded.has_value());
  EXPECT_THAT(loaded.error().message, HasSubstr("11.8"));
}

TEST(Driver, FailedCallBecomesAnErrorWithItsNameAndText) {
  const Result<void> failed = StandIn::driver().check(2, "cuMemAlloc");
  ASSERT_FALSE(failed.has_value());
  EXPECT_EQ(failed.error().code, ErrorCode::out_of_memory);
  EXPECT_THAT(failed.error().message,
              HasSubstr("cuMemAlloc failed with CUDA_ERROR_FAKE (2): as the test wanted"));
}

TEST(Driver, BufferIsFreedOnceAlsoAfterItWasMoved) {
  const int before = StandIn::state().frees;
  {
    auto buffer = cuda::Buffer::allocate(StandIn::driver(), 64);
    ASSERT_TRUE(buffer.has_value());
    const cuda::Buffer moved = std::move(*buffer);
    EXPECT_EQ(moved.bytes(), 64U);
  }
  EXPECT_EQ(StandIn::state().frees, before + 1);
}

TEST(Driver, DeviceFactsComeFromTheDriver) {
  const auto facts = StandIn::driver().device(0);
  ASSERT_TRUE(facts.has_value());
  EXPECT_EQ(facts->name, "Stand-in");
  EXPECT_EQ(facts->major, 9);
  EXPECT_EQ(facts->multiprocessors, 132);
  EXPECT_FALSE(StandIn::driver().device(1).has_value());
}

}  // namespace
}  // namespace lutsmith
