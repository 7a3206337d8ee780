#include "runtime/driver.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>

#include "fake_driver.h"
#include "stand_in.h"
#include "temporary_directory.h"

namespace lutsmith {
namespace {

using testing::AllOf;
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

/// The error of a driver that answers as `answer` sets the stand-in.
template <class Answer>
Error refusal_of(Answer answer) {
  answer(StandIn::state());
  const std::array<std::string_view, 1> names = {FAKE_DRIVER};
  const auto loaded = cuda::Driver::load(names);
  StandIn::state().version = 13000;
  StandIn::state().version_status = 0;
  StandIn::state().init_status = 0;
  EXPECT_FALSE(loaded.has_value());
  return loaded ? Error{} : loaded.error();
}

TEST(Driver, DriverBefore12IsRefusedWithItsVersionAndPlace) {
  const Error error = refusal_of([](FakeDriverState& state) { state.version = 11080; });
  EXPECT_EQ(error.code, ErrorCode::unsupported);
  EXPECT_THAT(error.message, AllOf(HasSubstr("11.8"), HasSubstr(FAKE_DRIVER), HasSubstr("525")));
}

TEST(Driver, StubOfAToolkitIsCalledThatAndItsPlaceIsNamed) {
  const Error error = refusal_of([](FakeDriverState& state) { state.version_status = 34; });
  EXPECT_EQ(error.code, ErrorCode::not_found);
  EXPECT_THAT(error.message, AllOf(HasSubstr(FAKE_DRIVER), HasSubstr("stub of a CUDA toolkit"),
                                   HasSubstr("LD_LIBRARY_PATH")));
  EXPECT_THAT(error.context, HasSubstr("CUDA_ERROR_STUB_LIBRARY (34)"));
}

TEST(Driver, DriverThatDoesNotStartSaysWhyWhereItLiesAndWhatToDo) {
  const std::pair<cuda::Status, const char*> answers[] = {
      {100, "finds no GPU"},
      {802, "nvidia-fabricmanager"},
      {803, "is not of the release of the kernel's NVIDIA module"},
      {804, "cuda-compat"},
      {999, "cuInit failed with CUDA_ERROR_FAKE (999)"},
  };
  for (const auto& [status, words] : answers) {
    const Error error = refusal_of([&](FakeDriverState& state) { state.init_status = status; });
    EXPECT_THAT(error.message, AllOf(HasSubstr(FAKE_DRIVER), HasSubstr(words)));
    EXPECT_THAT(error.context, HasSubstr("cuInit failed with CUDA_ERROR_FAKE"));
  }
}

TEST(Driver, DriverThatIsNoLibraryIsNotCalledMissing) {
  const TemporaryDirectory directory;
  const std::string file = directory.write("libcuda.so.1", "<html>");
  const std::array<std::string_view, 2> names = {"liblutsmith-no-driver.so.1", file};
  const auto loaded = cuda::Driver::load(names);
  ASSERT_FALSE(loaded.has_value());
  EXPECT_THAT(loaded.error().message, AllOf(HasSubstr(file), HasSubstr("the loader refuses it")));
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
