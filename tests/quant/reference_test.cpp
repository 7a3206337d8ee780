#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "expect_error.h"
#include "lutsmith/quantization.h"
#include "random_matrix.h"

namespace lutsmith {
namespace {

/// scale * table[code], straight from the definition.
double weight_at(const QuantizedMatrix& matrix, std::int64_t row, std::int64_t column) {
  const WeightFormat& format = matrix.format;
  const auto code_at = [&](std::int64_t c) {
    return std::size_t{matrix.codes[static_cast<std::size_t>(row * format.k + c)]};
  };
  std::size_t index = code_at(column);
  if (matrix.format.table == TableKind::pair) {
    const std::int64_t even = column / 2 * 2;
    index = 2 * (code_at(even) + code_at(even + 1) * (std::size_t{1} << format.bits)) +
            static_cast<std::size_t>(column % 2);
  }
  const std::int64_t group = format.group == kPerChannel ? 0 : column / format.group;
  const std::int64_t scale = row * groups_per_row(format.group, format.k) + group;
  return double{from_bits(matrix.scales[static_cast<std::size_t>(scale)], matrix.format.dtype)} *
         double{from_bits(matrix.table[index], matrix.format.dtype)};
}

template <class Check>
void for_kinds_and_groups(const Check& check) {
  for (const TableKind kind : {TableKind::scalar, TableKind::pair}) {
    for (const int group : kAllGroups) {
      for (const DataType dtype : {DataType::f16, DataType::bf16}) {
        SCOPED_TRACE(std::string(to_string(kind)) + ", group " + group_name(group));
        check(random_matrix({3, group, 5, 328, dtype, kind}));
      }
    }
  }
}

TEST(Reference, DequantizedWeightsAreScaleTimesEntryExactly) {
  for_kinds_and_groups([](const QuantizedMatrix& matrix) {
    const auto weights = dequantize(matrix);
    ASSERT_TRUE(weights) << weights.error().message;
    for (std::int64_t row = 0; row < 5; ++row) {
      for (std::int64_t column = 0; column < 328; ++column) {
        ASSERT_EQ((*weights)[static_cast<std::size_t>(row * 328 + column)], weight_at(matrix, row, column));
      }
    }
  });
}

TEST(Reference, ProductIsTheSumOverColumns) {
  for_kinds_and_groups([](const QuantizedMatrix& matrix) {
    constexpr std::int64_t kTokens = 3;
    std::vector<std::uint16_t> activations;
    for (const float value : random_weights(kTokens, 328, 4))
      activations.push_back(to_bits(value, matrix.format.dtype));
    const auto result = reference_matmul(matrix, activations, kTokens);
    ASSERT_TRUE(result) << result.error().message;
    ASSERT_EQ(result->size(), 3U * 5);
    for (std::int64_t token = 0; token < kTokens; ++token) {
      for (std::int64_t row = 0; row < 5; ++row) {
        double sum = 0;
        for (std::int64_t column = 0; column < 328; ++column) {
          sum += from_bits(activations[static_cast<std::size_t>(token * 328 + column)], matrix.format.dtype) *
                 weight_at(matrix, row, column);
        }
        EXPECT_NEAR((*result)[static_cast<std::size_t>(token * 5 + row)], sum, 1e-12);
      }
    }
  });
}

TEST(Reference, IdentityActivationsGiveTheWeights) {
  const QuantizedMatrix matrix = random_matrix({4, 32, 7, 40});
  std::vector<std::uint16_t> identity(std::size_t{40} * 40);
  for (std::size_t i = 0; i < 40; ++i) identity[i * 41] = to_bits(1, DataType::f16);
  const auto result = reference_matmul(matrix, identity, 40);
  ASSERT_TRUE(result);
  for (std::int64_t column = 0; column < 40; ++column) {
    for (std::int64_t row = 0; row < 7; ++row) {
      EXPECT_EQ((*result)[static_cast<std::size_t>(column * 7 + row)], weight_at(matrix, row, column));
    }
  }
}

TEST(Reference, ANegativeScaleMirrorsTheWeightsAndNegativeZeroIsZero) {
  QuantizedMatrix matrix = random_matrix({4, 32, 2, 32});
  matrix.scales = {to_bits(0.5F, DataType::f16), to_bits(-0.5F, DataType::f16)};
  std::ranges::copy(std::vector(matrix.codes.begin(), matrix.codes.begin() + 32), matrix.codes.begin() + 32);
  const std::vector<double> weights = *dequantize(matrix);
  for (std::size_t i = 0; i < 32; ++i) EXPECT_EQ(weights[32 + i], -weights[i]);
  matrix.scales = {0x8000, 0x8000};
  EXPECT_THAT(*dequantize(matrix), testing::Each(0.0));
  const std::vector<std::uint16_t> ones(32, to_bits(1, DataType::f16));
  EXPECT_THAT(*reference_matmul(matrix, ones, 1), testing::Each(0.0));
}

TEST(Reference, WrongSizesAreRefusedByName) {
  const QuantizedMatrix matrix = random_matrix({4, 32, 7, 40});
  const std::vector<std::uint16_t> activations(80);
  expect_error(reference_matmul(matrix, activations, 0), ErrorCode::invalid_argument, "m:", "0");
  expect_error(reference_matmul(matrix, activations, -2), ErrorCode::invalid_argument, "m:", "-2");
  expect_error(reference_matmul(matrix, activations, 3), ErrorCode::invalid_argument, "activations", "80",
               "m 3 x k 40");
  expect_error(reference_matmul(matrix, activations, INT64_MAX), ErrorCode::invalid_argument, "activations");
  QuantizedMatrix spoiled = matrix;
  spoiled.codes[3] = 16;
  expect_error(reference_matmul(spoiled, activations, 2), ErrorCode::invalid_argument, "codes", "16");
  expect_error(dequantize(spoiled), ErrorCode::invalid_argument, "codes", "16");
}

TEST(RelativeError, IsTheNormOfTheDifferenceOverTheNorm) {
  const std::vector<std::uint16_t> result{to_bits(3, DataType::f16), to_bits(5, DataType::f16)};
  EXPECT_DOUBLE_EQ(relative_error(result, std::vector<double>{3, 4}, DataType::f16), 0.2);
  EXPECT_EQ(relative_error(result, std::vector<double>{3, 5}, DataType::f16), 0);
}

TEST(RelativeError, AnythingThatIsNotANumberIsInfinitelyWrong) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const std::vector<std::uint16_t> one{to_bits(1, DataType::bf16)};
  const auto error_of = [](float value, double reference) {
    return relative_error(std::vector{to_bits(value, DataType::bf16)}, std::vector{reference},
                          DataType::bf16);
  };
  EXPECT_EQ(error_of(std::nanf(""), 1), kInfinity);
  EXPECT_EQ(error_of(std::numeric_limits<float>::infinity(), 1), kInfinity);
  EXPECT_EQ(error_of(1, std::nan("")), kInfinity);
  EXPECT_EQ(error_of(std::numeric_limits<float>::infinity(), kInfinity), kInfinity);
  EXPECT_EQ(error_of(1, 0), kInfinity);
  EXPECT_EQ(error_of(0, 0), 0);
  EXPECT_EQ(relative_error(one, std::vector<double>{1, 1}, DataType::bf16), kInfinity);
}

std::vector<std::uint16_t> rounded(const std::vector<double>& values, DataType dtype) {
  std::vector<std::uint16_t> result;
  for (const double value : values) result.push_back(to_bits(static_cast<float>(value), dtype));
  return result;
}

std::vector<double> normal_product(double deviation, std::size_t count = 4096) {
  std::mt19937 random(5);
  std::normal_distribution<double> normal(0, deviation);
  std::vector<double> product(count);
  for (double& value : product) value = normal(random);
  return product;
}

TEST(ProductError, CorrectRoundingIsRightFromTheSmallestToTheLargestNumbers) {
  for (const DataType dtype : {DataType::f16, DataType::bf16}) {
    const std::vector<double> deviations = dtype == DataType::f16
                                               ? std::vector{1e-12, 2e-8, 1e-7, 8e-6, 1e-3, 1.0, 3e4, 1e6}
                                               : std::vector{1e-45, 1e-40, 1e-38, 8e-6, 1.0, 1e30, 2e38};
    for (const double deviation : deviations) {
      SCOPED_TRACE(std::string(to_string(dtype)) + " " + std::to_string(deviation));
      const std::vector<double> product = normal_product(deviation);
      const ProductError error = product_error(rounded(product, dtype), product, dtype);
      EXPECT_TRUE(error.right()) << error.relative_error << " of " << error.allowed_error;
      EXPECT_LE(error.largest_ulps, 0.5 + 1e-6);  // by way of fp32
    }
  }
}

TEST(ProductError, ProductsInTheSubnormalRangeAreJudgedByTheirSpacing) {
  const std::vector<double> product = normal_product(8e-6);  // 134 units of 2^-24
  std::vector<std::uint16_t> result = rounded(product, DataType::f16);
  EXPECT_GT(relative_error(result, product, DataType::f16), allowed_relative_error(DataType::f16));
  EXPECT_TRUE(product_error(result, product, DataType::f16).right());
  // A fault still shows: every 16th element of the wrong row.
  for (std::size_t i = 0; i + 16 < result.size(); i += 16) result[i] = result[i + 16];
  EXPECT_FALSE(product_error(result, product, DataType::f16).right());
}

TEST(ProductError, NothingIsForgivenWhereNoResultIsSubnormal) {
  const std::vector<double> product{1, 2, 3, 4};
  const ProductError error = product_error(rounded({1, 2, 3, 4.012}, DataType::f16), product, DataType::f16);
  EXPECT_EQ(error.allowed_error, allowed_relative_error(DataType::f16));
  EXPECT_EQ(error.relative_error,
            relative_error(rounded({1, 2, 3, 4.012}, DataType::f16), product, DataType::f16));
  EXPECT_FALSE(error.right());
  EXPECT_DOUBLE_EQ(error.largest_ulps, 3);
}

TEST(ProductError, UlpsAreCountedWhereTheReferenceStands) {
  const auto ulps = [](float result, double reference, DataType dtype) {
    return product_error(std::vector{to_bits(result, dtype)}, std::vector{reference}, dtype).largest_ulps;
  };
  EXPECT_EQ(ulps(1, 1, DataType::f16), 0);
  EXPECT_EQ(ulps(1 + 0x1p-9F, 1, DataType::f16), 2);
  EXPECT_EQ(ulps(1, 1 - 0x1p-12, DataType::f16), 0.5);  // below 1 neighbours are half as far apart
  EXPECT_EQ(ulps(1, 1.00390625, DataType::bf16), 0.5);
  EXPECT_EQ(ulps(0x1p-24F, 0, DataType::f16), 1);
  EXPECT_EQ(ulps(0, 0x1p-26, DataType::f16), 0.25);
  EXPECT_EQ(ulps(0x1p-14F, 0x1p-14 - 0x1p-25, DataType::f16), 0.5);
  EXPECT_EQ(ulps(0, 0x1p-134, DataType::bf16), 0.5);
}

TEST(ProductError, OverflowIsRightWhereTheReferenceOverflowsAndWrongElsewhere) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const auto of = [](std::vector<float> result, const std::vector<double>& reference) {
    return product_error(rounded({result.begin(), result.end()}, DataType::f16), reference, DataType::f16);
  };
  ProductError error = of({kInfinity, -kInfinity, 1}, {70000, -1e9, 1});
  EXPECT_TRUE(error.right());
  EXPECT_EQ(error.overflowed, 2);
  EXPECT_EQ(error.relative_error, 0);
  // Within rounding of where the range ends, either.
  EXPECT_TRUE(of({kInfinity, 65504, 65504}, {65500, 65504, 65530}).right());
  for (const auto& [result, reference] :
       {std::pair{kInfinity, 60000.0}, std::pair{kInfinity, 1.0}, std::pair{kInfinity, -70000.0},
        std::pair{-kInfinity, 70000.0}, std::pair{65504.0F, 70000.0}, std::pair{0.0F, 1e9}}) {
    SCOPED_TRACE(reference);
    error = of({result, 1}, {reference, 1});
    EXPECT_EQ(error.wrong_overflow, 1);
    EXPECT_EQ(error.overflowed, 0);
    EXPECT_FALSE(error.right());
  }
}

TEST(ProductError, NotANumberIsWrongOnEitherSide) {
  for (const auto& [result, reference] : {std::pair{std::nanf(""), 1.0}, std::pair{1.0F, std::nan("")},
                                          std::pair{std::nanf(""), std::nan("")}}) {
    const ProductError error = product_error(rounded({result, 1}, DataType::bf16),
                                             std::vector<double>{reference, 1}, DataType::bf16);
    EXPECT_EQ(error.not_a_number, 1);
    EXPECT_FALSE(error.right());
  }
}

TEST(ProductError, SizesThatDifferAndResultsWhereAllIsZeroAreWrong) {
  EXPECT_FALSE(product_error(rounded({1}, DataType::f16), std::vector{1.0, 1.0}, DataType::f16).right());
  EXPECT_FALSE(product_error(rounded({1, 0}, DataType::f16), std::vector{0.0, 0.0}, DataType::f16).right());
  EXPECT_TRUE(product_error(rounded({-0.0, 0}, DataType::f16), std::vector{0.0, 0.0}, DataType::f16).right());
}

TEST(ProductError, CountsWhatDoesNotRoundToZero) {
  const std::vector<double> reference{0, 0x1p-25, 0x1.1p-25, -1, 1e9};
  EXPECT_EQ(product_error(rounded(reference, DataType::f16), reference, DataType::f16).nonzero, 3);
}

TEST(ProductError, OfAnotherTypeOfOutputCountsItsOwnUnitsAndRange) {
  KernelSpec spec{.format = {.dtype = DataType::f16}, .output = OutputType::f32};
  const std::vector<double> reference{1 + 0x1p-23, 1e9};
  const ProductError wide = product_error(std::vector<float>{1, 1e9F}, reference, spec);
  EXPECT_TRUE(wide.right());
  EXPECT_EQ(wide.overflowed + wide.wrong_overflow, 0) << "f16 would not hold it";
  EXPECT_EQ(wide.largest_ulps, 1);
  EXPECT_EQ(wide.allowed_error, allowed_relative_error(DataType::f16))
      << "scaled weights are rounded to that";
  spec.output = OutputType::bf16;
  EXPECT_EQ(product_error(std::vector<float>{1, 1e9F}, reference, spec).allowed_error,
            allowed_relative_error(DataType::bf16));
}

TEST(ReferenceEpilogue, AddsABiasAndAResidual) {
  const WeightFormat format{.n = 2, .k = 8};
  const std::vector<std::uint16_t> bias = {to_bits(1, DataType::f16), to_bits(2, DataType::f16)};
  const std::vector<float> residual = {10, 20, 30, 40};
  const auto both = reference_epilogue({100, 200, 300, 400}, format, {.bias = bias, .residual = residual});
  ASSERT_TRUE(both);
  EXPECT_EQ(*both, (std::vector<double>{111, 222, 331, 442}));
}

TEST(ReferenceEpilogue, MultipliesEightRowsByTheActivationsOfTheEightBeforeThem) {
  const WeightFormat format{.n = 32, .k = 8};
  std::vector<double> sums(64);
  for (std::size_t i = 0; i < sums.size(); ++i) sums[i] = static_cast<double>(i) / 16 - 2;
  const auto gated = reference_epilogue(sums, format, {.gated = Gate::silu});
  ASSERT_TRUE(gated);
  ASSERT_EQ(gated->size(), 32U);
  for (const std::size_t channel : {0U, 7U, 8U, 15U, 31U}) {
    const std::size_t gate = channel / 8 * 16 + channel % 8;
    EXPECT_DOUBLE_EQ((*gated)[channel], sums[gate] / (1 + std::exp(-sums[gate])) * sums[gate + 8]) << channel;
  }
  // Published values of GELU in the form with tanh: 0.8412 at 1, -0.1588 at -1.
  std::vector<double> ones(32, 1);
  ones[1] = -1;
  const auto gelu = reference_epilogue(ones, format, {.gated = Gate::gelu_tanh});
  ASSERT_TRUE(gelu);
  EXPECT_NEAR((*gelu)[0], 0.841192, 1e-6);
  EXPECT_NEAR((*gelu)[1], -0.158808, 1e-6);
}

TEST(ReferenceEpilogue, RefusesWhatNoKernelDoes) {
  const std::vector<std::uint16_t> three(3);
  const std::vector<float> three_more(3);
  EXPECT_FALSE(reference_epilogue(std::vector<double>(24), {.n = 24, .k = 8}, {.gated = Gate::silu}));
  EXPECT_FALSE(reference_epilogue(std::vector<double>(16), {.n = 16, .k = 8}, {.bias = three}));
  EXPECT_FALSE(reference_epilogue(std::vector<double>(16), {.n = 16, .k = 8}, {.residual = three_more}));
  EXPECT_FALSE(reference_epilogue(std::vector<double>(15), {.n = 16, .k = 8}, {}));
}

}  // namespace
}  // namespace lutsmith
