#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <set>
#include <vector>

#include "expect_error.h"
#include "lutsmith/quantization.h"
#include "random_matrix.h"

namespace lutsmith {
namespace {

constexpr std::int64_t kRows = 48;
constexpr std::int64_t kColumns = 328;  // not a multiple of any group

/// Three quarters near zero, one quarter far: no table of the normal distribution suits them.
std::vector<float> skewed_weights(std::int64_t n, std::int64_t k, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> near(0.001F, 0.002F);
  std::normal_distribution<float> far(0.05F, 0.02F);
  std::bernoulli_distribution is_far(0.25);
  std::vector<float> weights(static_cast<std::size_t>(n * k));
  for (float& weight : weights) weight = is_far(random) ? far(random) : near(random);
  return weights;
}

std::vector<float> random_importance(std::int64_t k, unsigned seed) {
  std::mt19937 random(seed);
  std::lognormal_distribution<float> wide(0, 2);
  std::vector<float> importance(static_cast<std::size_t>(k));
  for (float& each : importance) each = wide(random);
  return importance;
}

/// Sum of importance * (quantized - w)^2 with scales by least error, from dequantized values.
double error_with(const Table& table, std::span<const float> weights, std::int64_t n, std::int64_t k,
                  int group, DataType dtype, std::span<const float> importance) {
  const auto matrix =
      quantize(weights, n, k, table, group, dtype, {.scales = ScaleChoice::mse, .importance = importance});
  if (!matrix) return std::numeric_limits<double>::quiet_NaN();
  const std::vector<double> values = *dequantize(*matrix);
  double sum = 0;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    const double counts = importance.empty() ? 1 : importance[i % static_cast<std::size_t>(k)];
    sum += counts * std::pow(values[i] - weights[i], 2);
  }
  return sum;
}

TEST(LearnedTable, ErrorsFallFromRoundToRoundAndEndBelowNormalFloatAndLloyd) {
  for (const std::vector<float>& weights :
       {skewed_weights(kRows, kColumns, 1), random_weights(kRows, kColumns, 2)}) {
    for (const std::vector<float>& importance : {std::vector<float>(), random_importance(kColumns, 3)}) {
      for (const int bits : {2, 3, 4}) {
        for (const int group : {64, kPerChannel}) {
          const DataType dtype = bits == 3 ? DataType::bf16 : DataType::f16;
          SCOPED_TRACE(std::to_string(bits) + " bits, group " + group_name(group));
          const auto learned =
              learn_table(weights, kRows, kColumns, bits, group, dtype, {.importance = importance});
          ASSERT_TRUE(learned) << learned.error().message;
          EXPECT_TRUE(std::ranges::is_sorted(learned->errors, std::ranges::greater{}));
          const auto error = [&](const Table& table) {
            return error_with(table, weights, kRows, kColumns, group, dtype, importance);
          };
          EXPECT_NEAR(error(learned->table), learned->errors.back(), 1e-9 * learned->errors.back());
          const double best_known = std::min(error(*normal_float_table(bits)), error(*lloyd_max_table(bits)));
          // Lloyd's levels are scaled before rounding.
          EXPECT_NEAR(learned->errors.front(), best_known, 0.004 * best_known);
          EXPECT_LE(learned->errors.back(), best_known * 1.001);
        }
      }
    }
  }
}

TEST(LearnedTable, SkewedWeightsGainMuch) {
  const std::vector<float> weights = skewed_weights(kRows, kColumns, 4);
  const auto learned = learn_table(weights, kRows, kColumns, 3, kPerChannel, DataType::f16);
  ASSERT_TRUE(learned);
  EXPECT_LT(learned->errors.back(), 0.7 * learned->errors.front());
}

TEST(LearnedTable, WeightsOfAFewValuesAreFoundExactly) {
  const std::vector<float> values{-0.75F, -0.125F, 0.25F, 1};
  std::mt19937 random(5);
  std::vector<float> weights(std::size_t{32} * 64);
  for (std::size_t i = 0; i < weights.size(); ++i) {
    weights[i] =
        values[random() % 4] * std::ldexp(1.0F, static_cast<int>(i / 64 % 3));  // a scale for each row
  }
  const auto learned = learn_table(weights, 32, 64, 2, kPerChannel, DataType::f16);
  ASSERT_TRUE(learned);
  EXPECT_LT(learned->errors.back(), 1e-9 * learned->errors.front());
  std::vector<float> up = learned->table.values;
  if (up.front() == -1) {  // the same table, turned round
    for (float& value : up) value = -value;
    std::ranges::reverse(up);
  }
  for (std::size_t i = 0; i < 4; ++i) EXPECT_NEAR(up[i], values[i], 1e-3) << i;
}

TEST(LearnedTable, RowsCountByTheSquareOfTheirScale) {
  // Large rows of four values, small ones of others: in the matrix' error the small ones are 1/256 each.
  std::mt19937 random(10);
  std::vector<float> weights(std::size_t{64} * 64);
  for (std::size_t i = 0; i < weights.size(); ++i) {
    const bool large = i / 64 % 2 == 0;
    const std::vector<float> values =
        large ? std::vector<float>{-12, -2, 4, 16} : std::vector<float>{-0.5F, -0.25F, 0.75F, 1};
    weights[i] = values[random() % 4];
  }
  const auto learned = learn_table(weights, 64, 64, 2, kPerChannel, DataType::f16);
  ASSERT_TRUE(learned);
  const std::vector<float>& table = learned->table.values;
  EXPECT_NEAR(table[1] / table[0], 2.0 / 12, 0.003);
  EXPECT_NEAR(table[2] / table[3], 4.0 / 16, 0.003);
}

TEST(LearnedTable, ImportantChannelsDecideWhereTheLevelsAre) {
  // Even channels hold small weights, odd ones large: two levels serve the one or the other.
  std::mt19937 random(6);
  std::normal_distribution<float> normal(0, 0.01F);
  std::vector<float> weights(std::size_t{32} * 64);
  for (std::size_t i = 0; i < weights.size(); ++i)
    weights[i] = i % 2 == 0 ? 0.1F + normal(random) : normal(random) - 1;
  const auto error_of_even = [&](const std::vector<float>& importance) {
    const auto learned =
        learn_table(weights, 32, 64, 1, kPerChannel, DataType::f16, {.importance = importance});
    std::vector<float> even_only(64);
    for (std::size_t i = 0; i < 64; i += 2) even_only[i] = 1;
    const auto matrix = quantize(weights, 32, 64, learned->table, kPerChannel, DataType::f16,
                                 {.scales = ScaleChoice::mse, .importance = importance});
    const std::vector<double> quantized = *dequantize(*matrix);
    double sum = 0;
    for (std::size_t i = 0; i < weights.size(); i += 2) sum += std::pow(quantized[i] - weights[i], 2);
    return sum;
  };
  std::vector<float> even(64, 1e-6F);
  for (std::size_t i = 0; i < 64; i += 2) even[i] = 1;
  EXPECT_LT(error_of_even(even), 0.6 * error_of_even(std::vector<float>(64, 1.0F)));
}

TEST(LearnedTable, TheNumberOfThreadsChangesNothing) {
  const std::vector<float> weights = skewed_weights(600, 512, 7);
  const auto alone = learn_table(weights, 600, 512, 2, 64, DataType::f16, {.rounds = 2, .jobs = 1});
  const auto together = learn_table(weights, 600, 512, 2, 64, DataType::f16, {.rounds = 2, .jobs = 5});
  ASSERT_TRUE(alone && together);
  EXPECT_EQ(alone->table.values, together->table.values);
  EXPECT_EQ(alone->errors, together->errors);
}

TEST(LearnedTable, ValuesAscendToALargestMagnitudeOfOne) {
  const auto learned = learn_table(random_weights(32, 256, 8), 32, 256, 4, 64, DataType::f16);
  ASSERT_TRUE(learned);
  EXPECT_EQ(learned->table.name, "kmeans4");
  EXPECT_TRUE(std::ranges::is_sorted(learned->table.values));
  EXPECT_EQ(std::max(-learned->table.values.front(), learned->table.values.back()), 1);
}

TEST(LearnedTable, AMatrixOfZerosKeepsTheTableItBeganWith) {
  const auto learned = learn_table(std::vector<float>(64 * 32), 32, 64, 4, 64, DataType::f16);
  ASSERT_TRUE(learned);
  EXPECT_EQ(learned->errors, std::vector<double>{0});
  EXPECT_EQ(learned->table.values.size(), 16U);
}

TEST(LearnedTable, BadArgumentsAreRefusedByName) {
  std::vector<float> weights = random_weights(32, 64, 9);
  const auto with = [&](int bits, int group, const LearningOptions& options) {
    return learn_table(weights, 32, 64, bits, group, DataType::f16, options);
  };
  expect_error(with(9, 64, {}), ErrorCode::invalid_argument, "bits", "9");
  expect_error(with(4, 48, {}), ErrorCode::invalid_argument, "group", "48");
  expect_error(with(4, 64, {.rounds = 0}), ErrorCode::invalid_argument, "rounds", "0", "1 or more");
  const std::vector<float> short_importance(63, 1.0F);
  expect_error(with(4, 64, {.importance = short_importance}), ErrorCode::invalid_argument, "importance",
               "63");
  weights[64 * 9 + 5] = std::numeric_limits<float>::infinity();
  expect_error(with(4, 64, {}), ErrorCode::invalid_argument, "row 9, column 5");
  weights.pop_back();
  expect_error(with(4, 64, {}), ErrorCode::invalid_argument, "weights", "2047", "2048");
}

TEST(LearningRows, AreEvenlySpacedAndNoMoreThanAMillionWeights) {
  EXPECT_EQ(learning_rows(3, 64), (std::vector<std::int64_t>{0, 1, 2}));
  const std::vector<std::int64_t> rows = learning_rows(4096, 4096);
  ASSERT_EQ(rows.size(), 256U);
  for (std::size_t i = 0; i < rows.size(); ++i) EXPECT_EQ(rows[i], static_cast<std::int64_t>(16 * i));
  EXPECT_EQ(learning_rows(7, std::int64_t{1} << 22), std::vector<std::int64_t>{0});
}

}  // namespace
}  // namespace lutsmith
