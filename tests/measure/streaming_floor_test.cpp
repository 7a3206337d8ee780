#include "measure/streaming_floor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "must.h"
#include "simulated_device.h"

namespace lutsmith::measure {
namespace {

using test::must;
using test::SimulatedDevice;

const std::vector<std::byte> kCubin(64);

TEST(StreamingFloor, NoBlockIsLaunchedWithoutAVectorToRead) {
  SimulatedDevice device;
  const StreamingFloor floor = must(StreamingFloor::create(device, kCubin, /*dependent_launch=*/true));
  std::vector<std::byte> data(512 * 16 * 3 + 16);
  must(floor.launch({.blocks_per_multiprocessor = 4}, data.data(), data.size()));
  must(floor.launch({.blocks_per_multiprocessor = 4}, data.data(), 16));
  EXPECT_EQ(device.launches()[0].grid_x, 4U);
  EXPECT_EQ(device.launches()[1].grid_x, 1U);
}

TEST(StreamingFloor, LargeReadsHaveTheBlocksOfTheVariant) {
  SimulatedDevice device;
  const StreamingFloor floor = must(StreamingFloor::create(device, kCubin, /*dependent_launch=*/true));
  const std::vector<std::byte> data(std::size_t{16} << 20);
  must(floor.launch({.dependent = false, .blocks_per_multiprocessor = 2}, data.data(), data.size()));
  must(floor.launch({.dependent = true, .blocks_per_multiprocessor = 1}, data.data(), data.size()));
  EXPECT_EQ(device.launches()[0].grid_x, 200U);
  EXPECT_EQ(device.launches()[0].attribute_count, 0U);
  EXPECT_EQ(device.launches()[1].grid_x, 100U);
  ASSERT_EQ(device.launches()[1].attribute_count, 1U);
  EXPECT_EQ(device.launches()[1].attributes[0].id, cuda::kDependentLaunch.id);
}

TEST(StreamingFloor, DependentLaunchIsLeftOutWhereTheGpuHasNone) {
  SimulatedDevice device;
  EXPECT_EQ(must(StreamingFloor::create(device, kCubin, true)).variants().size(), 6U);
  const std::vector<FloorVariant> plain = must(StreamingFloor::create(device, kCubin, false)).variants();
  ASSERT_EQ(plain.size(), 3U);
  for (const FloorVariant& variant : plain) EXPECT_FALSE(variant.dependent);
}

TEST(StreamingFloor, FastestOfEitherKindIsTheFloor) {
  const std::vector<FloorVariant> variants{{false, 1}, {false, 2}, {true, 1}, {true, 2}};
  const std::vector<double> times{5, 4, 2, 3};
  const FloorTimes floor = fastest(variants, times);
  EXPECT_EQ(floor.plain.microseconds, 4);
  EXPECT_EQ(floor.plain.variant, "2 x 512 threads per SM");
  EXPECT_EQ(floor.dependent->microseconds, 2);
  EXPECT_EQ(floor.dependent->variant, "1 x 512 threads per SM, dependent launch");
  EXPECT_FALSE(fastest(std::span(variants).first(2), std::span(times).first(2)).dependent.has_value());
}

TEST(StreamingFloor, ReadsTheBytesOfEveryCopyFromMemory) {
  SimulatedDevice device({.memory_bytes_per_microsecond = 1000, .cache_bytes_per_microsecond = 8000});
  const StreamingFloor floor = must(StreamingFloor::create(device, kCubin, true));
  RotatingPool pool(device);
  const std::size_t bytes = 96 * 1000;
  must(pool.load(std::vector<std::byte>(bytes)));
  const std::vector<Contender> contenders = must(floor_contenders(device, floor, pool, bytes));
  for (const Statistics& times : must(measure(device, contenders))) {
    EXPECT_NEAR(times.median, 1 + 96, 1e-9);
  }
}

}  // namespace
}  // namespace lutsmith::measure
