#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>

#include "lutsmith/float16.h"

namespace lutsmith {
namespace {

__extension__ using CompilerHalf = _Float16;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::uint16_t largest_finite(DataType type) { return type == DataType::f16 ? 0x7bff : 0x7f7f; }

class Float16Type : public testing::TestWithParam<DataType> {};

TEST(Float16, EveryFp16ValueReadsAsTheCompilersHalf) {
  for (unsigned bits = 0; bits < 0x10000; ++bits) {
    const auto half = static_cast<std::uint16_t>(bits);
    const auto expected = static_cast<float>(std::bit_cast<CompilerHalf>(half));
    const float value = from_bits(half, DataType::f16);
    if (std::isnan(expected)) {
      ASSERT_TRUE(std::isnan(value)) << bits;
    } else {
      ASSERT_EQ(std::bit_cast<std::uint32_t>(value), std::bit_cast<std::uint32_t>(expected)) << bits;
    }
  }
}

TEST(Float16, RandomFloatsRoundAsTheCompilersHalf) {
  std::mt19937 random(1);
  std::uniform_int_distribution<std::uint32_t> exponent(127 - 30, 127 + 20);  // subnormal halves to overflow
  for (int i = 0; i < 2'000'000; ++i) {
    const auto word = static_cast<std::uint32_t>(random());
    const auto value = std::bit_cast<float>((word & 0x807fffffU) | exponent(random) << 23);
    ASSERT_EQ(to_bits(value, DataType::f16), std::bit_cast<std::uint16_t>(static_cast<CompilerHalf>(value)))
        << value;
  }
}

TEST_P(Float16Type, EveryValueSurvivesTheRoundTrip) {
  for (unsigned bits = 0; bits < 0x10000; ++bits) {
    const auto given = static_cast<std::uint16_t>(bits);
    const float value = from_bits(given, GetParam());
    if (std::isnan(value)) {
      ASSERT_TRUE(std::isnan(from_bits(to_bits(value, GetParam()), GetParam()))) << bits;
    } else {
      ASSERT_EQ(to_bits(value, GetParam()), given);
    }
  }
}

TEST_P(Float16Type, BetweenNeighboursTheNearestWinsAndATieGoesToTheEvenOne) {
  for (unsigned bits = 0; bits < largest_finite(GetParam()); ++bits) {
    const auto lower = static_cast<std::uint16_t>(bits);
    const auto upper = static_cast<std::uint16_t>(bits + 1);
    const float middle =
        static_cast<float>((double{from_bits(lower, GetParam())} + double{from_bits(upper, GetParam())}) / 2);
    ASSERT_EQ(to_bits(middle, GetParam()), bits % 2 == 0 ? lower : upper) << middle;
    ASSERT_EQ(to_bits(std::nextafter(middle, -kInfinity), GetParam()), lower) << middle;
    ASSERT_EQ(to_bits(std::nextafter(middle, kInfinity), GetParam()), upper) << middle;
    ASSERT_EQ(to_bits(-middle, GetParam()), (bits % 2 == 0 ? lower : upper) | 0x8000U) << middle;
  }
}

TEST_P(Float16Type, BeyondTheLargestFiniteValueComesInfinity) {
  const std::uint16_t largest = largest_finite(GetParam());
  const float value = from_bits(largest, GetParam());
  const float below = from_bits(static_cast<std::uint16_t>(largest - 1), GetParam());
  const float half_step = (value - below) / 2;
  EXPECT_EQ(to_bits(std::nextafter(value + half_step, 0.0F), GetParam()), largest);
  EXPECT_TRUE(std::isinf(from_bits(to_bits(value + half_step, GetParam()), GetParam())));
  EXPECT_EQ(from_bits(to_bits(kInfinity, GetParam()), GetParam()), kInfinity);
  EXPECT_EQ(from_bits(to_bits(-kInfinity, GetParam()), GetParam()), -kInfinity);
}

TEST_P(Float16Type, NotANumberStaysOneWhateverItsPayload) {
  for (const std::uint32_t payload : {0x1U, 0x1fffU, 0x2000U, 0xffffU, 0x10000U, 0x400000U, 0x7fffffU}) {
    const auto nan = std::bit_cast<float>(0xff800000U | payload);
    const std::uint16_t bits = to_bits(nan, GetParam());
    EXPECT_TRUE(std::isnan(from_bits(bits, GetParam()))) << payload;
    EXPECT_EQ(bits & 0x8000U, 0x8000U) << payload;
  }
}

TEST_P(Float16Type, ZeroKeepsItsSign) {
  EXPECT_EQ(to_bits(0.0F, GetParam()), 0);
  EXPECT_EQ(to_bits(-0.0F, GetParam()), 0x8000);
  EXPECT_TRUE(std::signbit(from_bits(0x8000, GetParam())));
}

INSTANTIATE_TEST_SUITE_P(Types, Float16Type, testing::Values(DataType::f16, DataType::bf16),
                         [](const auto& test) { return std::string(to_string(test.param)); });

}  // namespace
}  // namespace lutsmith
