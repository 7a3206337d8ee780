#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "expect_error.h"
#include "lutsmith/quantization.h"
#include "random_matrix.h"

namespace lutsmith {
namespace {

std::vector<float> table_values(const QuantizedMatrix& matrix) {
  std::vector<float> values;
  values.reserve(matrix.table.size());
  for (const std::uint16_t bits : matrix.table) values.push_back(from_bits(bits, matrix.format.dtype));
  return values;
}

float scale_of(const QuantizedMatrix& matrix, std::int64_t row, std::int64_t column) {
  const WeightFormat& format = matrix.format;
  const std::int64_t group = format.group == kPerChannel ? 0 : column / format.group;
  const std::int64_t index = row * groups_per_row(format.group, format.k) + group;
  return from_bits(matrix.scales[static_cast<std::size_t>(index)], matrix.format.dtype);
}

/// Distance of weights i, i + 1 (or i alone) from what a code stands for.
double distance(std::span<const float> weights, double scale, std::span<const float> entry) {
  double sum = 0;
  for (std::size_t i = 0; i < entry.size(); ++i) {
    const double difference = weights[i] - scale * entry[i];
    sum += difference * difference;
  }
  return std::sqrt(sum);
}

void expect_no_nearer_code(const QuantizedMatrix& matrix, std::span<const float> weights) {
  const std::vector<float> values = table_values(matrix);
  const std::size_t width = matrix.format.table == TableKind::pair ? 2 : 1;
  for (std::size_t i = 0; i < weights.size(); i += width) {
    const auto position = static_cast<std::int64_t>(i);
    const double scale = scale_of(matrix, position / matrix.format.k, position % matrix.format.k);
    std::size_t code = matrix.codes[i];
    if (width == 2) code += static_cast<std::size_t>(matrix.codes[i + 1]) << matrix.format.bits;
    const auto of = [&](std::size_t c) {
      return distance(weights.subspan(i, width), scale, std::span(values).subspan(width * c, width));
    };
    const double chosen = of(code);
    for (std::size_t other = 0; other < values.size() / width; ++other) {
      ASSERT_LE(chosen, of(other) * (1 + 1e-9))
          << "weight " << i << " has code " << code << ", nearer is " << other;
    }
  }
}

/// [n, k] weights with a scale of 1 under a table whose largest magnitude is `largest`.
std::vector<float> row_with_scale_one(std::vector<float> weights, float largest) {
  weights.resize(31);
  weights.push_back(largest);
  return weights;
}

TEST(Quantizer, NoOtherScalarCodeIsNearer) {
  std::vector<Table> tables{fp4_table(), *given_table(3, TableKind::scalar, {5, -1, 0, 2, 2, -7, 0, 1}),
                            *given_table(2, TableKind::scalar, {4, 4, 4, 4})};
  for (int bits = 1; bits <= 8; ++bits) tables.push_back(*integer_table(bits));
  for (int bits = 2; bits <= 8; ++bits) tables.push_back(*normal_float_table(bits));
  constexpr std::int64_t kRows = 3;
  constexpr std::int64_t kColumns = 328;  // not a multiple of any group
  const std::vector<float> weights = random_weights(kRows, kColumns, 7);
  for (const Table& table : tables) {
    for (const int group : kAllGroups) {
      for (const DataType dtype : {DataType::f16, DataType::bf16}) {
        SCOPED_TRACE(table.name + ", group " + group_name(group));
        const auto matrix = quantize(weights, kRows, kColumns, table, group, dtype);
        ASSERT_TRUE(matrix) << matrix.error().message;
        expect_no_nearer_code(*matrix, weights);
      }
    }
  }
}

TEST(Quantizer, NoOtherPairIsNearer) {
  constexpr std::int64_t kRows = 3;
  constexpr std::int64_t kColumns = 136;
  const std::vector<float> weights = random_weights(kRows, kColumns, 8);
  for (int bits = 1; bits <= 5; ++bits) {
    std::vector<float> values = random_weights(table_length(bits, TableKind::pair), 1, 9);
    values[0] = values[2];  // a repeated pair
    values[1] = values[3];
    const Table table = *given_table(bits, TableKind::pair, values);
    for (const int group : kAllGroups) {
      SCOPED_TRACE(bits);
      const auto matrix = quantize(weights, kRows, kColumns, table, group, DataType::f16);
      ASSERT_TRUE(matrix) << matrix.error().message;
      expect_no_nearer_code(*matrix, weights);
    }
  }
}

TEST(Quantizer, ScaleIsTheLargestWeightOverTheLargestEntryRoundedToTheType) {
  const std::vector<float> weights = random_weights(2, 72, 10);
  const Table table = *given_table(2, TableKind::scalar, {0, 1, -3, 2});
  for (const DataType dtype : {DataType::f16, DataType::bf16}) {
    const auto matrix = quantize(weights, 2, 72, table, 32, dtype);
    ASSERT_TRUE(matrix);
    ASSERT_EQ(matrix->scales.size(), 2U * 3);  // groups of 32, 32 and 8
    for (std::size_t row = 0; row < 2; ++row) {
      for (std::size_t group = 0; group < 3; ++group) {
        float largest = 0;
        for (std::size_t column = 32 * group; column < std::min<std::size_t>(72, 32 * group + 32); ++column) {
          const float weight = weights[72 * row + column];
          if (std::fabs(weight) > std::fabs(largest)) largest = weight;
        }
        EXPECT_EQ(matrix->scales[3 * row + group], to_bits(largest / -3, dtype));
      }
    }
  }
}

/// ||quantized - w|| / ||w||.
double weight_error(const QuantizedMatrix& matrix, std::span<const float> weights) {
  const std::vector<double> values = *dequantize(matrix);
  double difference = 0;
  double norm = 0;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    difference += std::pow(values[i] - weights[i], 2);
    norm += std::pow(weights[i], 2);
  }
  return std::sqrt(difference / norm);
}

TEST(Quantizer, TheLargestWeightIsNotClippedWhateverItsSign) {
  std::vector<Table> tables{*given_table(2, TableKind::scalar, {0, 1, -3, 2}),
                            *given_table(2, TableKind::scalar, {-1, 2, 0, 3}),
                            *given_table(2, TableKind::scalar, {1, 2, 3, 4})};
  for (int bits = 1; bits <= 8; ++bits) tables.push_back(*integer_table(bits));
  // All pairs of int2, so that a pair does what two codes do.
  std::vector<float> pairs;
  for (int code = 0; code < 16; ++code) {
    pairs.push_back(static_cast<float>(code % 4 - 2));
    pairs.push_back(static_cast<float>((code >> 2) - 2));
  }
  tables.push_back(*given_table(2, TableKind::pair, pairs));
  for (const Table& table : tables) {
    for (const float largest : {3.0F, -3.0F}) {
      SCOPED_TRACE(table.name + " " + std::to_string(table.bits) + ", largest " + std::to_string(largest));
      std::vector<float> weights(64, 0.02F);
      weights[37] = largest;
      const auto matrix = quantize(weights, 1, 64, table, 64, DataType::f16);
      ASSERT_TRUE(matrix);
      EXPECT_NEAR((*dequantize(*matrix))[37], largest, 3.0 / 2048);
    }
  }
}

TEST(Quantizer, ScalesArePositiveWhereTableOrWeightsReachEquallyFarBothWays) {
  std::vector<Table> tables{fp4_table()};
  for (int bits = 2; bits <= 8; ++bits) tables.push_back(*normal_float_table(bits));
  const std::vector<float> weights = random_weights(8, 256, 12);
  for (const Table& table : tables) {
    const auto matrix = quantize(weights, 8, 256, table, 32, DataType::f16);
    ASSERT_TRUE(matrix);
    for (const std::uint16_t scale : matrix->scales) EXPECT_LT(scale, 0x8000) << table.name;
  }
  const auto even = quantize(row_with_scale_one({8, 2}, -8), 1, 32, *integer_table(4), 32, DataType::f16);
  ASSERT_TRUE(even);
  EXPECT_EQ(from_bits(even->scales[0], DataType::f16), 1);
}

TEST(Quantizer, APositiveOutlierCostsIntegersNoMoreThanANegativeOne) {
  for (const auto& [bits, allowed] : {std::pair{4, 0.008}, std::pair{3, 0.008}, std::pair{2, 0.008}}) {
    std::vector<float> weights = random_weights(4, 64, 13);
    for (std::size_t row = 0; row < 4; ++row) weights[64 * row + 7 * row] = row % 2 == 0 ? 25.0F : -25.0F;
    const auto matrix = quantize(weights, 4, 64, *integer_table(bits), 64, DataType::f16);
    ASSERT_TRUE(matrix);
    EXPECT_LT(weight_error(*matrix, weights), allowed) << bits;
  }
}

TEST(Quantizer, NormalWeightsAsIntegersHaveTheErrorOfScalesThatFollowTheLargestWeight) {
  const std::vector<float> weights = random_weights(512, 1024, 14);
  for (const auto& [bits, expected] : {std::pair{4, 0.0950}, std::pair{3, 0.1926}, std::pair{2, 0.3951}}) {
    const auto matrix = quantize(weights, 512, 1024, *integer_table(bits), 64, DataType::f16);
    ASSERT_TRUE(matrix);
    EXPECT_NEAR(weight_error(*matrix, weights), expected, expected / 200) << bits;
  }
}

TEST(Quantizer, EquallyNearValuesGiveTheSmallerOne) {
  const std::vector<float> weights = row_with_scale_one({0.5F, -0.5F, 1.5F}, -8);
  const auto matrix = quantize(weights, 1, 32, *integer_table(4), 32, DataType::f16);
  ASSERT_TRUE(matrix);
  ASSERT_EQ(from_bits(matrix->scales[0], DataType::f16), 1);
  EXPECT_EQ(matrix->codes[0], 8);  // 0
  EXPECT_EQ(matrix->codes[1], 7);  // -1
  EXPECT_EQ(matrix->codes[2], 9);  // 1
}

TEST(Quantizer, EqualEntriesGiveTheLowestCode) {
  const auto scalar =
      quantize(row_with_scale_one({2, 0}, 4), 1, 32,
               *given_table(3, TableKind::scalar, {4, 0, 2, 2, 0, 4, 2, 0}), 32, DataType::f16);
  ASSERT_TRUE(scalar);
  EXPECT_EQ(scalar->codes[0], 2);
  EXPECT_EQ(scalar->codes[1], 1);
  EXPECT_EQ(scalar->codes[31], 0);
  const auto pair = quantize(row_with_scale_one({1, 0}, 4), 1, 32,
                             *given_table(1, TableKind::pair, {0, 4, 1, 0, 0, 0, 1, 0}), 32, DataType::f16);
  ASSERT_TRUE(pair);
  EXPECT_EQ(pair->codes[0], 1);
  EXPECT_EQ(pair->codes[1], 0);
}

TEST(Quantizer, AGroupOfZerosHasScaleZeroAndTheCodeOfZero) {
  std::vector<float> weights(64, 0.0F);
  weights[40] = 1;
  const auto matrix = quantize(weights, 1, 64, *normal_float_table(4), 32, DataType::bf16);
  ASSERT_TRUE(matrix);
  EXPECT_EQ(matrix->scales[0], 0);
  EXPECT_NE(matrix->scales[1], 0);
  EXPECT_THAT(std::vector(matrix->codes.begin(), matrix->codes.begin() + 32), testing::Each(7));
}

TEST(Quantizer, ALayerBelowTheRangeOfFp16IsRefusedAndTakenByBf16) {
  std::vector<float> weights = random_weights(64, 64, 15);
  const Table table = *normal_float_table(4);
  for (const float factor : {5e-7F, 5e-8F, 5e-38F}) {  // deviations of 1e-8, 1e-9 and 1e-39
    SCOPED_TRACE(factor);
    std::vector<float> small = weights;
    for (float& weight : small) weight *= factor;
    expect_error(quantize(small, 64, 64, table, 64, DataType::f16), ErrorCode::invalid_argument, "f16",
                 "too small", "row ", "columns 0 to 63", "scale", "use dtype bf16, or multiply");
    const auto matrix = quantize(small, 64, 64, table, 64, DataType::bf16);
    ASSERT_TRUE(matrix);
    EXPECT_LT(weight_error(*matrix, small), 0.11);
  }
  for (float& weight : weights) weight *= 5e-40F;  // 1e-41
  expect_error(quantize(weights, 64, 64, table, 64, DataType::bf16), ErrorCode::invalid_argument, "bf16",
               "multiply the weights");
}

TEST(Quantizer, WhatScalesLoseIsRefusedBeforeItCountsBesideTheQuantization) {
  for (const auto& [deviation, taken] :
       {std::pair{1e-6F, true}, std::pair{5e-8F, true}, std::pair{4e-8F, false}, std::pair{1e-10F, false}}) {
    std::vector<float> weights = random_weights(64, 256, 16);
    for (float& weight : weights) weight *= deviation / 0.02F;
    QuantizationLoss loss;
    const auto matrix = quantize(weights, 64, 256, *normal_float_table(4), 64, DataType::f16, loss);
    ASSERT_TRUE(matrix);
    EXPECT_EQ(check_loss(loss, DataType::f16).has_value(), taken) << deviation;
    EXPECT_EQ(loss.relative_error() < 0.1, taken) << deviation;
  }
}

TEST(Quantizer, RowsOfNextToNothingInANormalMatrixBecomeZero) {
  std::vector<float> weights = random_weights(64, 64, 17);
  for (std::size_t i = 0; i < std::size_t{32} * 64; ++i) weights[i] *= i < 1024 ? 1e-8F : 1e-35F;
  const auto matrix = quantize(weights, 64, 64, *integer_table(4), 32, DataType::f16);
  ASSERT_TRUE(matrix) << matrix.error().message;
  EXPECT_EQ(matrix->scales[0], 0);
  EXPECT_THAT(std::vector(matrix->scales.begin(), matrix->scales.begin() + 64), testing::Each(0));
  EXPECT_NE(matrix->scales[64], 0);
}

TEST(Quantizer, LossIsTheErrorOfTheWeightsThatWereGiven) {
  std::vector<float> values = random_weights(table_length(2, TableKind::pair), 1, 18);
  for (const Table& table :
       {*integer_table(3), *normal_float_table(4), *given_table(2, TableKind::pair, values)}) {
    for (const int group : kAllGroups) {
      const std::vector<float> weights = random_weights(5, 328, 19);
      QuantizationLoss loss;
      const auto matrix = quantize(weights, 5, 328, table, group, DataType::f16, loss);
      ASSERT_TRUE(matrix);
      EXPECT_NEAR(loss.relative_error(), weight_error(*matrix, weights), 1e-12) << table.name;
      EXPECT_EQ(loss.rows, 5);
      EXPECT_EQ(loss.scale_rounding, 0);
    }
  }
  EXPECT_EQ(QuantizationLoss{}.relative_error(), 0);
}

TEST(Quantizer, SlabsOfRowsAreTheWholeMatrix) {
  std::vector<float> weights = random_weights(96, 64, 20);
  for (std::size_t i = 0; i < weights.size(); ++i)
    weights[i] *= i / 64 < 32 ? 1e-6F : i / 64 < 64 ? 4e-6F : 1e-7F;
  const Table table = *normal_float_table(4);
  QuantizationLoss whole;
  const auto matrix = quantize(weights, 96, 64, table, 64, DataType::f16, whole);
  ASSERT_TRUE(matrix);
  EXPECT_GT(whole.worst.scale_rounding, 0);
  QuantizationLoss in_order;
  QuantizationLoss apart;
  std::vector<std::uint8_t> codes;
  for (const std::size_t first : {0U, 32U, 64U}) {
    const auto slab = std::span<const float>(weights).subspan(first * 64, 32 * 64);
    const auto part = quantize(slab, 32, 64, table, 64, DataType::f16, in_order);
    ASSERT_TRUE(part);
    codes.insert(codes.end(), part->codes.begin(), part->codes.end());
    QuantizationLoss own{.rows = static_cast<std::int64_t>(first)};
    ASSERT_TRUE(quantize(slab, 32, 64, table, 64, DataType::f16, own));
    apart.add(own);
  }
  EXPECT_EQ(codes, matrix->codes);
  for (const QuantizationLoss& loss : {in_order, apart}) {
    EXPECT_EQ(loss.rows, 96);
    EXPECT_DOUBLE_EQ(loss.weights, whole.weights);
    EXPECT_DOUBLE_EQ(loss.error, whole.error);
    EXPECT_DOUBLE_EQ(loss.scale_rounding, whole.scale_rounding);
    EXPECT_EQ(loss.worst.row, whole.worst.row);
  }
}

TEST(Quantizer, ErrorsOfASlabCountRowsFromItsFirst) {
  std::vector<float> weights(std::size_t{2} * 64, 1.0F);
  weights[64 + 5] = std::numeric_limits<float>::infinity();
  QuantizationLoss loss{.rows = 320};
  expect_error(quantize(weights, 2, 64, *normal_float_table(4), 64, DataType::f16, loss),
               ErrorCode::invalid_argument, "row 321, column 5");
  weights[64 + 5] = 1e6F;
  loss = {.rows = 320};
  expect_error(quantize(weights, 2, 64, *normal_float_table(4), 64, DataType::f16, loss),
               ErrorCode::invalid_argument, "row 321", "columns 0 to 63");
  loss = {.rows = 320};
  ASSERT_TRUE(
      quantize(std::vector<float>(64, 1e-9F), 1, 64, *normal_float_table(4), 64, DataType::f16, loss));
  expect_error(check_loss(loss, DataType::f16), ErrorCode::invalid_argument, "row 320", "columns 0 to 63");
}

TEST(Quantizer, AScaleBeyondFp16IsRefusedAndTakenByBf16) {
  std::vector<float> weights(64, 0.0F);
  weights[33] = -70000;
  const Table table = *normal_float_table(4);
  expect_error(quantize(weights, 1, 64, table, 32, DataType::f16), ErrorCode::invalid_argument, "70000",
               "f16", "row 0", "columns 32 to 63", "bf16");
  EXPECT_TRUE(quantize(weights, 1, 64, table, 32, DataType::bf16));
  weights[33] = std::numeric_limits<float>::max();
  expect_error(quantize(weights, 1, 64, table, 32, DataType::bf16), ErrorCode::invalid_argument, "bf16");
}

TEST(Quantizer, WeightsThatAreNotFiniteAreRefusedWithTheirPlace) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                          -std::numeric_limits<float>::infinity()}) {
    std::vector<float> weights(std::size_t{3} * 72, 1.0F);
    weights[2 * 72 + 69] = bad;
    expect_error(quantize(weights, 3, 72, *integer_table(3), 64, DataType::f16), ErrorCode::invalid_argument,
                 "weights", "row 2, column 69", "finite");
  }
}

TEST(Quantizer, BadArgumentsAreRefusedByName) {
  const std::vector<float> weights(std::size_t{32} * 32, 1.0F);
  const Table nf4 = *normal_float_table(4);
  const auto with = [&](std::int64_t n, std::int64_t k, const Table& table, int group) {
    return quantize(weights, n, k, table, group, DataType::f16);
  };
  ASSERT_TRUE(with(32, 32, nf4, 32));
  expect_error(with(32, 32, nf4, 48), ErrorCode::invalid_argument, "group", "48",
               "32, 64, 128, 256, channel");
  expect_error(with(32, 32, nf4, -1), ErrorCode::invalid_argument, "group", "-1");
  expect_error(with(0, 32, nf4, 32), ErrorCode::invalid_argument, "n:", "0");
  expect_error(with(-5, 32, nf4, 32), ErrorCode::invalid_argument, "n:", "-5");
  expect_error(with(32, 0, nf4, 32), ErrorCode::invalid_argument, "k:", "0", "multiples of 8");
  expect_error(with(10, 100, nf4, 32), ErrorCode::invalid_argument, "k:", "100", "multiples of 8");
  expect_error(with(std::int64_t{1} << 62, 32, nf4, 32), ErrorCode::invalid_argument, "n:");
  expect_error(with(32, 40, nf4, 32), ErrorCode::invalid_argument, "weights", "1024", "1280");
  expect_error(with(32, 32, Table{"x", 9, TableKind::scalar, std::vector<float>(512)}, 32),
               ErrorCode::invalid_argument, "bits", "9");
  expect_error(with(32, 32, Table{"x", 4, TableKind::scalar, std::vector<float>(8)}, 32),
               ErrorCode::invalid_argument, "table", "8", "16");
  expect_error(with(32, 32, Table{"x", 4, TableKind::scalar, std::vector<float>(16)}, 32),
               ErrorCode::invalid_argument, "table", "all values are 0");
  expect_error(quantize(weights, 32, 32, nf4, 32, static_cast<DataType>(7)), ErrorCode::invalid_argument,
               "dtype", "7");
}

TEST(Quantizer, RootMeanSquareErrorOfNormalWeightsShrinksWithEveryBit) {
  const std::vector<float> weights = random_weights(64, 512, 11);
  double previous = std::numeric_limits<double>::infinity();
  for (int bits = 2; bits <= 8; ++bits) {
    const auto matrix = quantize(weights, 64, 512, *normal_float_table(bits), 64, DataType::f16);
    ASSERT_TRUE(matrix);
    const auto values = dequantize(*matrix);
    ASSERT_TRUE(values);
    double sum = 0;
    for (std::size_t i = 0; i < weights.size(); ++i) sum += std::pow(weights[i] - (*values)[i], 2);
    EXPECT_LT(sum, previous / 2) << bits;
    previous = sum;
  }
}

}  // namespace
}  // namespace lutsmith
