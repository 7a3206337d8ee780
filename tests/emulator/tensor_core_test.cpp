// How the emulated tensor core adds: its rules, in sums small enough to follow by hand.

#include "emulator/tensor_core.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

#include "lutsmith/float16.h"

namespace lutsmith::emulator_test {
namespace {

using emulator::MmaFragments;

constexpr std::size_t kRows = 16;
constexpr std::size_t kDepth = 16;
constexpr std::size_t kTokens = 8;
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

struct Matrices {
  float a[kRows][kDepth] = {};
  float b[kDepth][kTokens] = {};
  float d[kRows][kTokens] = {};
};

void put(std::uint32_t& word, std::size_t half, float value) {
  const std::uint16_t bits = to_bits(value, DataType::f16);
  const float read_back = from_bits(bits, DataType::f16);
  EXPECT_TRUE(read_back == value || std::isnan(value)) << value << " is no f16";
  word |= std::uint32_t{bits} << 16 * half;
}

/// d + a * b, in the fragments that the PTX manual draws for mma.m16n8k16.
Matrices multiplied(const Matrices& matrices) {
  MmaFragments fragments = {};
  for (std::size_t row = 0; row < kRows; ++row) {
    for (std::size_t k = 0; k < kDepth; ++k) {
      put(fragments.a[row % 8 * 4 + k % 8 / 2][row / 8 + k / 8 * 2], k % 2, matrices.a[row][k]);
    }
  }
  for (std::size_t k = 0; k < kDepth; ++k) {
    for (std::size_t token = 0; token < kTokens; ++token) {
      put(fragments.b[token * 4 + k % 8 / 2][k / 8], k % 2, matrices.b[k][token]);
    }
  }
  const auto sum = [&](std::size_t row, std::size_t token) -> float& {
    return fragments.d[row % 8 * 4 + token / 2][row / 8 * 2 + token % 2];
  };
  for (std::size_t row = 0; row < kRows; ++row) {
    for (std::size_t token = 0; token < kTokens; ++token) sum(row, token) = matrices.d[row][token];
  }
  emulator::multiply_accumulate(fragments, DataType::f16);
  Matrices result = matrices;
  for (std::size_t row = 0; row < kRows; ++row) {
    for (std::size_t token = 0; token < kTokens; ++token) result.d[row][token] = sum(row, token);
  }
  return result;
}

using Factors = std::pair<float, float>;

/// d plus the products of up to 16 pairs of factors, which does not depend on their order.
float sum_of(float d, std::vector<Factors> factors) {
  constexpr std::size_t kRow = 9;
  constexpr std::size_t kToken = 5;
  const auto add = [&] {
    Matrices matrices;
    for (std::size_t k = 0; k < factors.size(); ++k) {
      matrices.a[kRow][k] = factors[k].first;
      matrices.b[k][kToken] = factors[k].second;
    }
    matrices.d[kRow][kToken] = d;
    return multiplied(matrices).d[kRow][kToken];
  };
  const float sum = add();
  std::ranges::reverse(factors);
  const float backwards = add();
  EXPECT_TRUE(std::isnan(sum) ? std::isnan(backwards) : backwards == sum) << sum << ", " << backwards;
  return sum;
}

std::vector<Factors> times(std::size_t count, const Factors& factors) {
  return std::vector<Factors>(count, factors);
}

TEST(TensorCore, SmallIntegersAreExactInEveryElement) {
  Matrices matrices;
  for (std::size_t row = 0; row < kRows; ++row) {
    for (std::size_t k = 0; k < kDepth; ++k) {
      matrices.a[row][k] = static_cast<float>(row * 3) - static_cast<float>(k);
    }
    for (std::size_t token = 0; token < kTokens; ++token) {
      matrices.d[row][token] = static_cast<float>(100 * row) - static_cast<float>(token);
    }
  }
  for (std::size_t k = 0; k < kDepth; ++k) {
    for (std::size_t token = 0; token < kTokens; ++token) {
      matrices.b[k][token] = static_cast<float>(k * k) - static_cast<float>(7 * token);
    }
  }
  const Matrices result = multiplied(matrices);
  for (std::size_t row = 0; row < kRows; ++row) {
    for (std::size_t token = 0; token < kTokens; ++token) {
      float expected = matrices.d[row][token];
      for (std::size_t k = 0; k < kDepth; ++k) expected += matrices.a[row][k] * matrices.b[k][token];
      EXPECT_EQ(result.d[row][token], expected) << "row " << row << ", token " << token;
    }
  }
}

// Beside 1, bits down to 2^-25 are kept.
TEST(TensorCore, ProductsBelowTheKeptBitsAreDropped) {
  EXPECT_EQ(sum_of(1, times(16, {0x1p-13F, 0x1p-13F})), 1.0F);
  EXPECT_EQ(sum_of(0, {{1.0F, 1.0F}, {0x1p-13F, 0x1p-13F}, {0x1p-13F, 0x1p-13F}}), 1.0F);
}

TEST(TensorCore, ProductsWithinTheExtraBitsCountTogether) {
  EXPECT_EQ(sum_of(1, times(16, {0x1p-12F, 0x1p-13F})), 1 + 0x1p-21F);
  EXPECT_EQ(sum_of(1, times(4, {0x1p-12F, 0x1p-13F})), 1 + 0x1p-23F);
}

TEST(TensorCore, SumIsCutTowardsZero) {
  EXPECT_EQ(sum_of(1, times(7, {0x1p-12F, 0x1p-13F})), 1 + 0x1p-23F);
  EXPECT_EQ(sum_of(-1, times(7, {-0x1p-12F, 0x1p-13F})), -1 - 0x1p-23F);
  EXPECT_EQ(sum_of(1, times(3, {0x1p-12F, 0x1p-13F})), 1.0F);
  EXPECT_EQ(sum_of(-1, times(3, {-0x1p-12F, 0x1p-13F})), -1.0F);
}

TEST(TensorCore, EveryTermIsCutTowardsZero) {
  EXPECT_EQ(sum_of(1, times(16, {0x1.8p-12F, 0x1p-13F})), 1 + 0x1p-21F);
  EXPECT_EQ(sum_of(1, times(16, {-0x1.8p-12F, 0x1p-13F})), 1 - 0x1p-21F);
  EXPECT_EQ(sum_of(-1, times(16, {0x1.8p-12F, 0x1p-13F})), -1 + 0x1p-21F);
}

// Beside 2^20, bits down to 2^-5 are kept, even where nothing of that size is left in the sum.
TEST(TensorCore, CancellationLeavesTheKeptBitsOfTheRest) {
  const std::vector<Factors> cancelling = {{0x1p10F, 0x1p10F}, {-0x1p10F, 0x1p10F}};
  const auto with = [&](const Factors& rest) {
    std::vector<Factors> factors = cancelling;
    factors.push_back(rest);
    return factors;
  };
  EXPECT_EQ(sum_of(0, cancelling), 0.0F);
  EXPECT_EQ(sum_of(1, with({1.0F, 0x1p-5F})), 1 + 0x1p-5F);
  EXPECT_EQ(sum_of(1, with({1.0F, 0x1p-6F})), 1.0F);
  EXPECT_EQ(sum_of(-0x1p20F, {{0x1p10F, 0x1p10F}, {1.0F, 0x1p-5F}}), 0x1p-5F);
  EXPECT_EQ(sum_of(-0x1p20F, {{0x1p10F, 0x1p10F}, {1.0F, 0x1p-6F}}), 0.0F);
  EXPECT_EQ(sum_of(0x1p-5F, cancelling), 0x1p-5F);
  EXPECT_EQ(sum_of(0x1p-6F, cancelling), 0.0F) << "d is cut as the products are";
}

TEST(TensorCore, SubnormalNumbersAreExact) {
  constexpr float kSmallest = 0x1p-24F;
  constexpr float kLargest = 1023 * kSmallest;
  EXPECT_EQ(sum_of(0, times(16, {kSmallest, 1.0F})), 0x1p-20F);
  EXPECT_EQ(sum_of(0, {{kSmallest, kSmallest}}), 0x1p-48F);
  EXPECT_EQ(sum_of(0, {{kLargest, -kLargest}}), -kLargest * kLargest);
  EXPECT_EQ(sum_of(0x1p-20F, {{kSmallest, 0x1p10F}}), 0x1p-20F + 0x1p-14F);
  EXPECT_EQ(sum_of(0x1p-149F, {}), 0x1p-149F);
}

TEST(TensorCore, InfinitiesAndNanFollowTheRulesOfFloats) {
  EXPECT_EQ(sum_of(1, {{2.0F, 3.0F}, {kInfinity, 1.0F}}), kInfinity);
  EXPECT_EQ(sum_of(1, {{2.0F, 3.0F}, {kInfinity, -1.0F}}), -kInfinity);
  EXPECT_EQ(sum_of(-kInfinity, {{2.0F, 3.0F}}), -kInfinity);
  EXPECT_TRUE(std::isnan(sum_of(1, {{kInfinity, 0.0F}})));
  EXPECT_TRUE(std::isnan(sum_of(1, {{kInfinity, 1.0F}, {kInfinity, -1.0F}})));
  EXPECT_TRUE(std::isnan(sum_of(kInfinity, {{1.0F, -kInfinity}})));
  EXPECT_TRUE(std::isnan(sum_of(1, {{2.0F, kNan}})));
  EXPECT_TRUE(std::isnan(sum_of(kNan, {{2.0F, 3.0F}})));
}

/// Every sum is 1 + 2^-21, which it is not where the products are added one by one.
Matrices delicate() {
  Matrices matrices;
  for (auto& row : matrices.a) std::ranges::fill(row, 0x1p-12F);
  for (auto& row : matrices.b) std::ranges::fill(row, 0x1p-13F);
  for (auto& row : matrices.d) std::ranges::fill(row, 1.0F);
  return matrices;
}

/// Expects what delicate() gives, but in the elements for which `affected` has a sum of their own.
template <class Affected>
void expect_others_unchanged(const Matrices& result, Affected affected) {
  for (std::size_t row = 0; row < kRows; ++row) {
    for (std::size_t token = 0; token < kTokens; ++token) {
      const float sum = result.d[row][token];
      if (affected(row, token)) {
        EXPECT_FALSE(std::isfinite(sum)) << "row " << row << ", token " << token;
      } else {
        EXPECT_EQ(std::bit_cast<std::uint32_t>(sum), std::bit_cast<std::uint32_t>(1 + 0x1p-21F))
            << "row " << row << ", token " << token;
      }
    }
  }
}

TEST(TensorCore, WhatIsNotFiniteAffectsItsOwnSumsOnly) {
  expect_others_unchanged(multiplied(delicate()), [](std::size_t, std::size_t) { return false; });
  for (const float value : {kInfinity, -kInfinity, kNan}) {
    Matrices matrices = delicate();
    matrices.a[3][5] = value;
    expect_others_unchanged(multiplied(matrices), [](std::size_t row, std::size_t) { return row == 3; });
    matrices = delicate();
    matrices.b[12][6] = value;
    expect_others_unchanged(multiplied(matrices), [](std::size_t, std::size_t token) { return token == 6; });
    matrices = delicate();
    matrices.d[10][1] = value;
    expect_others_unchanged(multiplied(matrices),
                            [](std::size_t row, std::size_t token) { return row == 10 && token == 1; });
  }
}

}  // namespace
}  // namespace lutsmith::emulator_test
