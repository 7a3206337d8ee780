#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "expect_error.h"
#include "lutsmith/quantization.h"

namespace lutsmith {
namespace {

using testing::ElementsAre;

void expect_near(const std::vector<float>& values, const std::vector<float>& published, float tolerance) {
  ASSERT_EQ(values.size(), published.size());
  for (std::size_t i = 0; i < values.size(); ++i) EXPECT_NEAR(values[i], published[i], tolerance) << i;
}

TEST(NormalFloat, FourBitsAreThePublishedValues) {
  const Result<Table> table = normal_float_table(4);
  ASSERT_TRUE(table);
  EXPECT_EQ(table->name, "nf4");
  EXPECT_EQ(table->bits, 4);
  EXPECT_EQ(table->kind, TableKind::scalar);
  expect_near(table->values,
              {-1, -.6961928F, -.5250731F, -.3949175F, -.2844414F, -.1847734F, -.09105004F, 0, .0795803F,
               .1609302F, .2461123F, .3379152F, .4407098F, .5626170F, .7229568F, 1},
              2e-7F);
}

TEST(NormalFloat, ThreeAndTwoBitsAreThePublishedValues) {
  expect_near(normal_float_table(3)->values, {-1, -.47863F, -.21714F, 0, .16093F, .33792F, .56262F, 1},
              6e-6F);
  expect_near(normal_float_table(2)->values, {-1, 0, .33792F, 1}, 6e-6F);
}

TEST(NormalFloat, EveryWidthRisesFromMinusOneThroughAnExactZeroToOne) {
  for (int bits = 2; bits <= 8; ++bits) {
    const Result<Table> table = normal_float_table(bits);
    ASSERT_TRUE(table) << bits;
    const std::vector<float>& values = table->values;
    ASSERT_EQ(values.size(), std::size_t{1} << bits);
    EXPECT_EQ(values.front(), -1) << bits;
    EXPECT_EQ(values[values.size() / 2 - 1], 0) << bits;
    EXPECT_EQ(values.back(), 1) << bits;
    EXPECT_TRUE(std::ranges::is_sorted(values, std::ranges::less_equal{})) << bits;
  }
}

TEST(IntegerTable, ValuesAreCodeMinusHalf) {
  EXPECT_THAT(integer_table(1)->values, ElementsAre(-1, 0));
  EXPECT_THAT(integer_table(3)->values, ElementsAre(-4, -3, -2, -1, 0, 1, 2, 3));
  const Result<Table> table = integer_table(8);
  ASSERT_TRUE(table);
  EXPECT_EQ(table->name, "int8");
  ASSERT_EQ(table->values.size(), 256U);
  EXPECT_EQ(table->values.front(), -128);
  EXPECT_EQ(table->values.back(), 127);
}

TEST(Fp4Table, CodesAreSignExponentFraction) {
  const Table table = fp4_table();
  ASSERT_EQ(table.values.size(), 16U);
  for (int code = 0; code < 16; ++code) {
    const int exponent = code / 2 % 4;
    const float fraction = static_cast<float>(code % 2) / 2;
    const float magnitude = exponent == 0 ? fraction : std::ldexp(1 + fraction, exponent - 1);
    EXPECT_EQ(table.values[static_cast<std::size_t>(code)], code < 8 ? magnitude : -magnitude) << code;
  }
}

TEST(TableByMethod, NamesOfTheCommandLineFindTheirTables) {
  EXPECT_EQ(table_by_method("nf", 3)->name, "nf3");
  EXPECT_EQ(table_by_method("int", 2)->name, "int2");
  EXPECT_EQ(table_by_method("fp", 4)->name, "fp4");
  EXPECT_EQ(table_by_method("lloyd", 3)->name, "lloyd3");
}

TEST(TableByMethod, UnknownNamesAndWidthsAreRefused) {
  expect_error(table_by_method("nfl", 4), ErrorCode::invalid_argument, "method", "'nfl'",
               "nf, int, fp, lloyd");
  expect_error(table_by_method("kmeans", 4), ErrorCode::invalid_argument, "method", "learn_table");
  expect_error(table_by_method("fp", 3), ErrorCode::invalid_argument, "bits", "3", "allowed: 4");
  expect_error(table_by_method("nf", 1), ErrorCode::invalid_argument, "bits", "1", "2 to 8");
  expect_error(table_by_method("nf", 9), ErrorCode::invalid_argument, "bits", "9", "2 to 8");
  expect_error(table_by_method("int", 0), ErrorCode::invalid_argument, "bits", "0", "1 to 8");
  expect_error(table_by_method("int", 9), ErrorCode::invalid_argument, "bits", "9", "1 to 8");
}

TEST(GivenTable, AcceptsUnsortedRepeatedAndZeroValues) {
  const std::vector<float> values{3, -1, 3, 0};
  const Result<Table> table = given_table(2, TableKind::scalar, values);
  ASSERT_TRUE(table);
  EXPECT_EQ(table->name, "given");
  EXPECT_EQ(table->values, values);
  EXPECT_TRUE(given_table(2, TableKind::pair, std::vector<float>(32)));
}

TEST(GivenTable, WrongLengthIsRefused) {
  expect_error(given_table(4, TableKind::scalar, std::vector<float>(15)), ErrorCode::invalid_argument,
               "table", "15", "16");
  expect_error(given_table(4, TableKind::pair, std::vector<float>(256)), ErrorCode::invalid_argument, "table",
               "256", "512");
  expect_error(given_table(0, TableKind::scalar, {0}), ErrorCode::invalid_argument, "bits", "0");
  expect_error(given_table(9, TableKind::scalar, std::vector<float>(512)), ErrorCode::invalid_argument,
               "bits", "9");
}

TEST(GivenTable, ValuesThatAreNotFiniteAreRefusedWithTheirIndex) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float infinity = std::numeric_limits<float>::infinity();
  expect_error(given_table(2, TableKind::scalar, {0, 1, nan, 3}), ErrorCode::invalid_argument, "table", "nan",
               "index 2");
  expect_error(given_table(2, TableKind::scalar, {0, -infinity, 2, 3}), ErrorCode::invalid_argument, "-inf",
               "index 1");
}

TEST(GivenTable, ValuesBeyondTheTypeAreRefusedOnlyForThatType) {
  expect_error(given_table(2, TableKind::scalar, {0, 1, 2, 65520}, DataType::f16),
               ErrorCode::invalid_argument, "table", "65520", "index 3", "f16");
  EXPECT_TRUE(given_table(2, TableKind::scalar, {0, 1, 2, 65519}, DataType::f16));
  EXPECT_TRUE(given_table(2, TableKind::scalar, {0, 1, 2, 65520}, DataType::bf16));
  expect_error(
      given_table(2, TableKind::scalar, {0, 1, 2, std::numeric_limits<float>::max()}, DataType::bf16),
      ErrorCode::invalid_argument, "bf16");
}

}  // namespace
}  // namespace lutsmith
