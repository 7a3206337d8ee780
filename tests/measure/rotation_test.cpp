#include "measure/rotation.h"

#include <gtest/gtest.h>

#include <vector>

#include "must.h"
#include "simulated_device.h"

namespace lutsmith::measure {
namespace {

using test::must;
using test::SimulatedDevice;

constexpr std::size_t kMegabyte = std::size_t{1} << 20;

TEST(Rotation, CopiesTogetherAreFiveTimesTheCache) {
  for (const std::size_t bytes : {kMegabyte / 2, kMegabyte, 7 * kMegabyte, 100 * kMegabyte}) {
    const Rotation rotation = make_rotation(bytes, 50 * kMegabyte, 8000 * kMegabyte);
    EXPECT_GE(rotation.pool_bytes(), 250 * kMegabyte) << bytes;
    EXPECT_LE(rotation.pool_bytes(), 250 * kMegabyte + rotation.stride) << bytes;
    EXPECT_GE(rotation.launches, rotation.sets);
    EXPECT_GE(rotation.launches, 20);
  }
}

TEST(Rotation, OneLargerThanTheCacheHasTwoCopiesStill) {
  EXPECT_EQ(make_rotation(900 * kMegabyte, 50 * kMegabyte, 8000 * kMegabyte).sets, 2);
}

TEST(Rotation, CopiesDoNotOverlapAndAreAligned) {
  const Rotation rotation = make_rotation(1000 * 1000 + 3, kMegabyte, 100 * kMegabyte);
  EXPECT_GE(rotation.stride, 1000U * 1000 + 3);
  EXPECT_EQ(rotation.stride % 1024, 0U);
  EXPECT_EQ(rotation.offset(0), 0U);
  EXPECT_EQ(rotation.offset(rotation.sets - 1), rotation.pool_bytes() - rotation.stride);
  EXPECT_EQ(rotation.offset(rotation.sets), 0U);
}

TEST(Rotation, StaysWithinTheMemoryThatItMayUse) {
  const Rotation rotation = make_rotation(10 * kMegabyte, 50 * kMegabyte, 45 * kMegabyte);
  EXPECT_EQ(rotation.sets, 4);
  EXPECT_EQ(make_rotation(10 * kMegabyte, 50 * kMegabyte, kMegabyte).sets, 1);
}

TEST(Rotation, SmallMatricesHaveNoMoreThan512Copies) {
  EXPECT_EQ(make_rotation(1, 50 * kMegabyte, 8000 * kMegabyte).sets, 512);
}

TEST(RotatingPool, EveryCopyHoldsTheData) {
  SimulatedDevice device;
  RotatingPool pool(device);
  std::vector<std::byte> data(300 * 1000);
  for (std::size_t i = 0; i < data.size(); ++i) data[i] = static_cast<std::byte>(i * 7 >> 3);
  must(pool.load(data));
  ASSERT_GT(pool.rotation().sets, 5);
  for (int launch = 0; launch < pool.rotation().launches; ++launch) {
    EXPECT_TRUE(std::equal(data.begin(), data.end(), pool.copy_for(launch))) << launch;
  }
}

TEST(RotatingPool, PatternGoesOnAcrossTheCopies) {
  SimulatedDevice device;
  RotatingPool pool(device);
  std::vector<std::byte> pattern(1009);
  for (std::size_t i = 0; i < pattern.size(); ++i) pattern[i] = static_cast<std::byte>(i);
  must(pool.load_repeated(pattern, 500 * 1000));
  for (std::size_t i = 0; i < pool.rotation().pool_bytes(); i += 4999) {
    EXPECT_EQ(pool.copy_for(0)[i], pattern[i % pattern.size()]) << i;
  }
}

TEST(RotatingPool, MemoryIsKeptForWhatFitsAndFreedBeforeMoreIsTaken) {
  SimulatedDevice device;
  {
    RotatingPool pool(device);
    must(pool.load(std::vector<std::byte>(2 * kMegabyte)));
    const std::byte* const first = pool.copy_for(0);
    must(pool.load(std::vector<std::byte>(kMegabyte)));
    EXPECT_EQ(pool.copy_for(0), first);
    must(pool.load(std::vector<std::byte>(20 * kMegabyte)));
    EXPECT_EQ(device.living(), 1);
  }
  EXPECT_EQ(device.living(), 0);
}

}  // namespace
}  // namespace lutsmith::measure
