#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "expect_error.h"
#include "lutsmith/quantization.h"
#include "random_matrix.h"

namespace lutsmith {
namespace {

constexpr std::int64_t kRows = 2;
constexpr std::int64_t kColumns = 328;  // not a multiple of any group

/// Mostly small, with a few large ones, as in layers: where the choice of the scale matters most.
std::vector<float> heavy_tailed_weights(std::int64_t n, std::int64_t k, unsigned seed) {
  std::mt19937 random(seed);
  std::student_t_distribution<float> student(3);
  std::vector<float> weights(static_cast<std::size_t>(n * k));
  for (float& weight : weights) weight = 0.02F * student(random);
  return weights;
}

std::vector<float> random_importance(std::int64_t k, unsigned seed) {
  std::mt19937 random(seed);
  std::lognormal_distribution<float> wide(0, 2);
  std::vector<float> importance(static_cast<std::size_t>(k));
  for (float& each : importance) each = wide(random);
  importance[3] = 0;
  return importance;
}

std::vector<Table> some_tables() {
  std::vector<Table> tables{fp4_table(),
                            *integer_table(1),
                            *integer_table(2),
                            *integer_table(4),
                            *normal_float_table(2),
                            *normal_float_table(3),
                            *normal_float_table(4),
                            *given_table(3, TableKind::scalar, {5, -1, 0, 2, 2, -7, 0, 1}),
                            *given_table(2, TableKind::scalar, {1, 2, 3, 4})};
  tables.push_back(*given_table(2, TableKind::pair, random_weights(table_length(2, TableKind::pair), 1, 9)));
  return tables;
}

/// One group of a matrix, with everything in float64.
struct Group {
  std::vector<double> weights;
  std::vector<double> importance;
  std::vector<double> values;  ///< that were chosen, scale included
  double scale = 0;

  [[nodiscard]] double error() const {
    double sum = 0;
    for (std::size_t i = 0; i < weights.size(); ++i)
      sum += importance[i] * std::pow(values[i] - weights[i], 2);
    return sum;
  }

  /// With the entries nearest to the weights: by the definition, squares of pairs counted by importance.
  [[nodiscard]] double error_with(double other_scale, const QuantizedMatrix& matrix) const {
    const std::size_t width = matrix.format.table == TableKind::pair ? 2 : 1;
    double sum = 0;
    for (std::size_t i = 0; i < weights.size(); i += width) {
      double nearest = std::numeric_limits<double>::infinity();
      for (std::size_t entry = 0; entry < matrix.table.size(); entry += width) {
        double distance = 0;
        for (std::size_t j = 0; j < width; ++j) {
          const double value = from_bits(matrix.table[entry + j], matrix.format.dtype);
          distance += importance[i + j] * std::pow(other_scale * value - weights[i + j], 2);
        }
        nearest = std::min(nearest, distance);
      }
      sum += nearest;
    }
    return sum;
  }
};

std::vector<Group> groups_of(const QuantizedMatrix& matrix, std::span<const float> weights,
                             std::span<const float> importance) {
  const std::vector<double> values = *dequantize(matrix);
  const std::int64_t k = matrix.format.k;
  const std::int64_t group = matrix.format.group == kPerChannel ? k : matrix.format.group;
  std::vector<Group> groups;
  for (std::int64_t row = 0; row < matrix.format.n; ++row) {
    for (std::int64_t first = 0; first < k; first += group) {
      Group one;
      one.scale = from_bits(matrix.scales[groups.size()], matrix.format.dtype);
      for (std::int64_t column = first; column < std::min(k, first + group); ++column) {
        const auto i = static_cast<std::size_t>(row * k + column);
        one.weights.push_back(weights[i]);
        one.values.push_back(values[i]);
        one.importance.push_back(importance.empty() ? 1 : importance[static_cast<std::size_t>(column)]);
      }
      groups.push_back(std::move(one));
    }
  }
  return groups;
}

/// Calls `check(mse, absmax, weights, importance)` for every kind of table, group, type and importance.
template <class Check>
void for_many_settings(const Check& check) {
  const std::vector<float> weights = heavy_tailed_weights(kRows, kColumns, 31);
  for (const Table& table : some_tables()) {
    for (const int group : kAllGroups) {
      for (const DataType dtype : {DataType::f16, DataType::bf16}) {
        for (const std::vector<float>& importance : {std::vector<float>(), random_importance(kColumns, 32)}) {
          SCOPED_TRACE(table.name + ", group " + group_name(group) +
                       (importance.empty() ? "" : ", weighted"));
          const auto absmax = quantize(weights, kRows, kColumns, table, group, dtype);
          const auto mse = quantize(weights, kRows, kColumns, table, group, dtype,
                                    {.scales = ScaleChoice::mse, .importance = importance});
          ASSERT_TRUE(absmax && mse);
          check(*mse, *absmax, weights, importance);
        }
      }
    }
  }
}

TEST(ScaleSearch, NoGroupIsWorseThanWithTheAbsoluteMaximum) {
  double before = 0;
  double after = 0;
  for_many_settings([&](const QuantizedMatrix& mse, const QuantizedMatrix& absmax,
                        std::span<const float> weights, std::span<const float> importance) {
    const std::vector<Group> searched = groups_of(mse, weights, importance);
    const std::vector<Group> plain = groups_of(absmax, weights, importance);
    for (std::size_t i = 0; i < plain.size(); ++i) {
      ASSERT_LE(searched[i].error(), plain[i].error() * (1 + 1e-12)) << "group " << i;
      before += plain[i].error();
      after += searched[i].error();
    }
  });
  EXPECT_LT(after, 0.6 * before);
}

TEST(ScaleSearch, NoMultipleOfTheFirstScaleIsBetter) {
  for_many_settings([&](const QuantizedMatrix& mse, const QuantizedMatrix& absmax,
                        std::span<const float> weights, std::span<const float> importance) {
    const std::vector<Group> searched = groups_of(mse, weights, importance);
    const std::vector<Group> plain = groups_of(absmax, weights, importance);
    double entry = 0;
    for (const std::uint16_t bits : mse.table)
      entry = std::max(entry, std::fabs(double{from_bits(bits, mse.format.dtype)}));
    for (std::size_t i = 0; i < plain.size(); ++i) {
      double largest = 0;
      for (const double weight : plain[i].weights) largest = std::max(largest, std::fabs(weight));
      for (int factor = -24; factor <= 24; ++factor) {
        if (std::abs(factor) == 3) continue;  // no twentieth of the grid's
        const auto multiple = static_cast<float>(largest / entry * factor / 20);
        const double scale = from_bits(to_bits(multiple, mse.format.dtype), mse.format.dtype);
        ASSERT_LE(searched[i].error(), searched[i].error_with(scale, mse) * (1 + 1e-9))
            << "group " << i << ", " << factor;
      }
    }
  });
}

TEST(ScaleSearch, TheScaleIsTheBestOneOfItsCodes) {
  for_many_settings([&](const QuantizedMatrix& mse, const QuantizedMatrix&, std::span<const float> weights,
                        std::span<const float> importance) {
    const std::vector<Group> searched = groups_of(mse, weights, importance);
    for (const int step : {-1, 1}) {
      QuantizedMatrix changed = mse;
      for (std::uint16_t& scale : changed.scales) scale = static_cast<std::uint16_t>(scale + step);
      const std::vector<Group> beside = groups_of(changed, weights, importance);
      for (std::size_t i = 0; i < beside.size(); ++i) {
        ASSERT_LE(searched[i].error(), beside[i].error() * (1 + 1e-12)) << "group " << i << ", " << step;
      }
    }
  });
}

TEST(ScaleSearch, CodesAreThoseOfTheEntriesWithTheLeastError) {
  for_many_settings([&](const QuantizedMatrix& mse, const QuantizedMatrix&, std::span<const float> weights,
                        std::span<const float> importance) {
    for (const Group& group : groups_of(mse, weights, importance)) {
      ASSERT_NEAR(group.error(), group.error_with(group.scale, mse), 1e-9 * group.error() + 1e-30);
    }
  });
}

TEST(ScaleSearch, WhatIsImportantIsKeptAndWhatIsNotIsClipped) {
  std::vector<float> weights = random_weights(1, 64, 33);
  weights[20] = 0.4F;  // 20 times the others
  std::vector<float> importance(64, 1.0F);
  const auto value_with = [&](float of_the_outlier) {
    importance[20] = of_the_outlier;
    const auto matrix = quantize(weights, 1, 64, *integer_table(3), 64, DataType::f16,
                                 {.scales = ScaleChoice::mse, .importance = importance});
    return (*dequantize(*matrix))[20];
  };
  EXPECT_NEAR(value_with(1), 0.4, 0.1);
  EXPECT_LT(value_with(0), 0.1);
}

TEST(ScaleSearch, ANegativeScaleIsTakenWhereTheTableReachesFurtherThatWay) {
  // NF2 has two positive entries and one negative: weights that are mostly negative want it turned round.
  std::vector<float> weights(32);
  for (std::size_t i = 0; i < 32; ++i) weights[i] = i % 4 == 0 ? 1.0F : i % 4 == 1 ? -1.0F : -0.34F;
  const auto matrix =
      quantize(weights, 1, 32, *normal_float_table(2), 32, DataType::f16, {.scales = ScaleChoice::mse});
  ASSERT_TRUE(matrix);
  EXPECT_LT(from_bits(matrix->scales[0], DataType::f16), 0);
}

TEST(RootMeanSquareScales, AreThoseOfEachGroupAndCodesTheNearest) {
  constexpr std::size_t kGroup = 64;
  constexpr std::size_t kLast = 40;  // of the last group, which is not full
  constexpr std::int64_t kWidth = kGroup + kLast;
  const std::vector<float> weights = heavy_tailed_weights(2, kWidth, 38);
  const Table table = *lloyd_max_table(3);
  const auto matrix =
      quantize(weights, 2, kWidth, table, kGroup, DataType::bf16, {.scales = ScaleChoice::rms});
  ASSERT_TRUE(matrix);
  for (std::size_t row = 0; row < 2; ++row) {
    for (std::size_t part = 0; part < 2; ++part) {
      const std::size_t first = row * kWidth + part * kGroup;
      const std::size_t count = part == 0 ? kGroup : kLast;
      double sum = 0;
      for (std::size_t i = first; i < first + count; ++i) sum += double{weights[i]} * weights[i];
      const auto expected = static_cast<float>(std::sqrt(sum / static_cast<double>(count)));
      const std::uint16_t stored = matrix->scales[row * 2 + part];
      ASSERT_EQ(stored, to_bits(expected, DataType::bf16));
      const double scale = from_bits(stored, DataType::bf16);
      for (std::size_t i = first; i < first + count; ++i) {
        const auto distance = [&](std::size_t code) {
          return std::fabs(scale * from_bits(matrix->table[code], DataType::bf16) - weights[i]);
        };
        for (std::size_t code = 0; code < 8; ++code) EXPECT_LE(distance(matrix->codes[i]), distance(code));
      }
    }
  }
}

TEST(RootMeanSquareScales, BeyondTheRangeAreRefusedAsWhatTheyAre) {
  const std::vector<float> weights(64, 1e6F);
  expect_error(quantize(weights, 1, 64, *lloyd_max_table(2), 64, DataType::f16, {.scales = ScaleChoice::rms}),
               ErrorCode::invalid_argument, "the scale 1e+06 (root mean square of the group)", "bf16");
}

TEST(ScaleSearch, SlabsOfRowsAreTheWholeMatrix) {
  const std::vector<float> weights = heavy_tailed_weights(kRows, kColumns, 34);
  const std::vector<float> importance = random_importance(kColumns, 35);
  const QuantizationOptions options{.scales = ScaleChoice::mse, .importance = importance};
  const Table table = *normal_float_table(3);
  const auto whole = quantize(weights, kRows, kColumns, table, 64, DataType::f16, options);
  QuantizationLoss loss;
  std::vector<std::uint8_t> codes;
  for (std::size_t row = 0; row < kRows; ++row) {
    const auto one = quantize(std::span(weights).subspan(row * kColumns, kColumns), 1, kColumns, table, 64,
                              DataType::f16, loss, options);
    ASSERT_TRUE(one);
    codes.insert(codes.end(), one->codes.begin(), one->codes.end());
  }
  EXPECT_EQ(codes, whole->codes);
}

TEST(ScaleSearch, GroupsOfZerosAndLayersBelowTheRangeAreTreatedAsBefore) {
  const QuantizationOptions mse{.scales = ScaleChoice::mse};
  const auto zeros = quantize(std::vector<float>(64), 1, 64, *normal_float_table(4), 32, DataType::f16, mse);
  ASSERT_TRUE(zeros);
  EXPECT_EQ(zeros->scales[0], 0);
  EXPECT_EQ(zeros->codes[0], 7);
  std::vector<float> small = random_weights(64, 64, 36);
  for (float& weight : small) weight *= 5e-7F;
  expect_error(quantize(small, 64, 64, *normal_float_table(4), 64, DataType::f16, mse),
               ErrorCode::invalid_argument, "too small", "bf16");
}

TEST(ScaleSearch, AnImportanceThatIsNoneIsRefused) {
  const std::vector<float> weights = random_weights(2, 64, 37);
  const auto with = [&](const std::vector<float>& importance) {
    return quantize(weights, 2, 64, *normal_float_table(4), 64, DataType::f16,
                    {.scales = ScaleChoice::mse, .importance = importance});
  };
  expect_error(with(std::vector<float>(63, 1.0F)), ErrorCode::invalid_argument, "importance", "63", "64");
  std::vector<float> importance(64, 1.0F);
  for (const float bad :
       {-1.0F, std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    importance[17] = bad;
    expect_error(with(importance), ErrorCode::invalid_argument, "importance", "index 17");
  }
}

TEST(ScaleChoice, NamesAreThoseOfTheCommandLine) {
  for (const ScaleChoice choice : {ScaleChoice::absmax, ScaleChoice::mse, ScaleChoice::rms}) {
    EXPECT_EQ(*parse_scale_choice(to_string(choice)), choice);
  }
  expect_error(parse_scale_choice("best"), ErrorCode::invalid_argument, "scales", "'best'",
               "absmax, mse, rms");
  EXPECT_EQ(usual_scale_choice("nf"), ScaleChoice::absmax);
  EXPECT_EQ(usual_scale_choice("lloyd"), ScaleChoice::mse);
}

}  // namespace
}  // namespace lutsmith
