#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "expect_error.h"
#include "lutsmith/quantization.h"
#include "random_matrix.h"

namespace lutsmith {
namespace {

/// scale * table[code], straight from the definition.
double weight_at(const QuantizedMatrix& matrix, std::int64_t row, std::int64_t column) {
  const PackedFormat& format = matrix.format;
  const auto code_at = [&](std::int64_t c) {
    return std::size_t{matrix.codes[static_cast<std::size_t>(row * format.k + c)]};
  };
  std::size_t index = code_at(column);
  if (matrix.table_kind == TableKind::pair) {
    const std::int64_t even = column / 2 * 2;
    index = 2 * (code_at(even) + code_at(even + 1) * (std::size_t{1} << format.bits)) +
            static_cast<std::size_t>(column % 2);
  }
  const std::int64_t group = format.group == kPerChannel ? 0 : column / format.group;
  const std::int64_t scale = row * groups_per_row(format.group, format.k) + group;
  return double{from_bits(matrix.scales[static_cast<std::size_t>(scale)], matrix.dtype)} *
         double{from_bits(matrix.table[index], matrix.dtype)};
}

template <class Check>
void for_kinds_and_groups(const Check& check) {
  for (const TableKind kind : {TableKind::scalar, TableKind::pair}) {
    for (const int group : kAllGroups) {
      for (const DataType dtype : {DataType::fp16, DataType::bf16}) {
        SCOPED_TRACE(std::string(to_string(kind)) + ", group " + group_name(group));
        check(random_matrix({3, group, 5, 328}, dtype, kind));
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
      activations.push_back(to_bits(value, matrix.dtype));
    const auto result = reference_matmul(matrix, activations, kTokens);
    ASSERT_TRUE(result) << result.error().message;
    ASSERT_EQ(result->size(), 3U * 5);
    for (std::int64_t token = 0; token < kTokens; ++token) {
      for (std::int64_t row = 0; row < 5; ++row) {
        double sum = 0;
        for (std::int64_t column = 0; column < 328; ++column) {
          sum += from_bits(activations[static_cast<std::size_t>(token * 328 + column)], matrix.dtype) *
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
  for (std::size_t i = 0; i < 40; ++i) identity[i * 41] = to_bits(1, DataType::fp16);
  const auto result = reference_matmul(matrix, identity, 40);
  ASSERT_TRUE(result);
  for (std::int64_t column = 0; column < 40; ++column) {
    for (std::int64_t row = 0; row < 7; ++row) {
      EXPECT_EQ((*result)[static_cast<std::size_t>(column * 7 + row)], weight_at(matrix, row, column));
    }
  }
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
  const std::vector<std::uint16_t> result{to_bits(3, DataType::fp16), to_bits(5, DataType::fp16)};
  EXPECT_DOUBLE_EQ(relative_error(result, std::vector<double>{3, 4}, DataType::fp16), 0.2);
  EXPECT_EQ(relative_error(result, std::vector<double>{3, 5}, DataType::fp16), 0);
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

}  // namespace
}  // namespace lutsmith
