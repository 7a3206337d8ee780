#include "measure/cublas.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <utility>

#include "expect_error.h"
#include "must.h"
#include "simulated_device.h"
#include "stand_in_cublas.h"

namespace lutsmith::measure {
namespace {

using test::must;
using test::SimulatedDevice;
using test::StandInCublas;

TEST(Cublas, MissingLibraryIsAnErrorThatTellsWhatToInstallAndWhatWasTried) {
  SimulatedDevice device;
  const std::array places{CublasPlace{.cublas_lt = "/nonexistent/libcublasLt.so.13", .cublas = "unused"}};
  const Result<Cublas> opened = Cublas::open(device, places);
  expect_error(opened, ErrorCode::not_found, "cuBLAS 12 or 13 was not found", "LD_LIBRARY_PATH");
  EXPECT_THAT(opened.error().context, testing::HasSubstr("/nonexistent/libcublasLt.so.13"));
}

TEST(Cublas, LibraryWithoutItsFunctionsIsRefused) {
  SimulatedDevice device;
  const std::array places{CublasPlace{.cublas_lt = "libc.so.6", .cublas = "libc.so.6"}};
  expect_error(Cublas::open(device, places), ErrorCode::unsupported, "lacks a function");
}

TEST(Cublas, PlacesAreTriedInTurn) {
  const StandInCublas stand_in;
  SimulatedDevice device;
  const std::array places{CublasPlace{.cublas_lt = "/nonexistent/a", .cublas = FAKE_CUBLAS},
                          CublasPlace{.cublas_lt = FAKE_CUBLAS, .cublas = "/nonexistent/b"},
                          StandInCublas::places().front()};
  EXPECT_EQ(must(Cublas::open(device, places)).version(), 130100);
}

TEST(Cublas, FailuresAreErrorsAndLeaveNoHandleAndNoMemory) {
  const StandInCublas stand_in;
  SimulatedDevice device;
  StandInCublas::state().create_status = 3;
  expect_error(Cublas::open(device, StandInCublas::places()), ErrorCode::driver_error,
               "cublasCreate failed with cuBLAS status 3");
  StandInCublas::state().create_status = 0;
  StandInCublas::state().version_status = 7;
  expect_error(Cublas::open(device, StandInCublas::places()), ErrorCode::driver_error, "cublasGetVersion");
  StandInCublas::state().version_status = 0;
  device.fail_call(device.calls());
  expect_error(Cublas::open(device, StandInCublas::places()), ErrorCode::driver_error, "allocate failed");
  EXPECT_EQ(StandInCublas::state().living, 0);
  EXPECT_EQ(device.living(), 0);
}

TEST(Cublas, HandleIsDestroyedOnceAlsoAfterItWasMoved) {
  const StandInCublas stand_in;
  SimulatedDevice device;
  {
    Cublas cublas = must(Cublas::open(device, StandInCublas::places()));
    const Cublas moved = std::move(cublas);
    EXPECT_EQ(StandInCublas::state().living, 1);
    EXPECT_EQ(device.living(), 1);
  }
  EXPECT_EQ(StandInCublas::state().living, 0);
  EXPECT_EQ(device.living(), 0);
}

TEST(Cublas, EveryProductHasTheWorkspaceThatRecordingNeeds) {
  const StandInCublas stand_in;
  SimulatedDevice device;
  const Cublas cublas = must(Cublas::open(device, StandInCublas::places()));
  bool had_workspace = false;
  StandInCublas::state().multiply = [&](const FakeProduct& product) {
    had_workspace = StandInCublas::state().has_workspace;
    EXPECT_EQ(product.rows, 48);
    EXPECT_EQ(product.columns, 3);
    EXPECT_EQ(product.depth, 64);
    EXPECT_EQ(product.type, 14);
  };
  must(cublas.multiply(DataType::bf16, 3, 48, 64, nullptr, nullptr, nullptr));
  EXPECT_TRUE(had_workspace);
  EXPECT_EQ(StandInCublas::state().workspace_bytes, std::size_t{32} << 20);
  StandInCublas::state().multiply_status = 13;
  expect_error(cublas.multiply(DataType::f16, 3, 48, 64, nullptr, nullptr, nullptr), ErrorCode::driver_error,
               "cublasGemmEx failed with cuBLAS status 13");
}

}  // namespace
}  // namespace lutsmith::measure
