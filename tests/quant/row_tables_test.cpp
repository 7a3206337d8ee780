// A table for each row: where its bytes stand, and what weights are with it.

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "expect_error.h"
#include "lutsmith/quantization.h"
#include "must.h"
#include "nearest.h"
#include "quant/host_matrix.h"
#include "random_matrix.h"

namespace lutsmith {
namespace {

using test::must;
using test::nearest;

constexpr std::int64_t kRows = 70;
constexpr std::int64_t kColumns = 1032;

WeightFormat with_row_tables(int bits, int group, bool offsets = false) {
  return {
      .bits = bits, .group = group, .n = kRows, .k = kColumns, .table = TableKind::row, .offsets = offsets};
}

TEST(RowTables, ComeBackAsTheyWerePackedBesideEverythingElse) {
  for (int bits = 1; bits <= 8; ++bits) {
    for (const int group : kAllGroups) {
      const QuantizedMatrix matrix = random_matrix(with_row_tables(bits, group, group == 64), 3);
      ASSERT_EQ(matrix.table.size(), static_cast<std::size_t>(kRows << bits));
      const QuantizedMatrix again = must(unpack(must(pack(matrix)), matrix.format));
      EXPECT_EQ(again.codes, matrix.codes) << bits << " bits, group " << group;
      EXPECT_EQ(again.scales, matrix.scales) << bits << " bits, group " << group;
      EXPECT_EQ(again.offsets, matrix.offsets) << bits << " bits, group " << group;
      EXPECT_EQ(again.table, matrix.table) << bits << " bits, group " << group;
    }
  }
}

TEST(RowTables, StandBehindEverythingElseLowBytesOfARowAheadOfHighOnes) {
  for (int bits = 1; bits <= 8; ++bits) {
    for (const int group : kAllGroups) {
      const QuantizedMatrix matrix = random_matrix(with_row_tables(bits, group), 5);
      const std::vector<std::byte> packed = must(pack(matrix));
      WeightFormat without = matrix.format;
      without.table = TableKind::scalar;
      const std::size_t begin = must(packed_bytes(without));
      const std::size_t length = std::size_t{1} << bits;
      constexpr std::size_t kPaddedRows = 96;
      ASSERT_EQ(packed.size(), begin + kPaddedRows * length * 2);
      for (std::size_t i = 0; i < kPaddedRows * length; ++i) {
        const std::size_t low = begin + i / length * 2 * length + i % length;
        const std::uint16_t value = i < matrix.table.size() ? matrix.table[i] : std::uint16_t{0};
        ASSERT_EQ(std::to_integer<int>(packed[low]), value & 0xff) << bits << " bits, value " << i;
        ASSERT_EQ(std::to_integer<int>(packed[low + length]), value >> 8) << bits << " bits, value " << i;
      }
    }
  }
}

// In slabs of rows, of which there are several.
TEST(RowTables, AreThoseOfTheirRowsInEverySlab) {
  WeightFormat format = with_row_tables(3, 128, true);
  format.k = 16384;
  const QuantizedMatrix matrix = random_matrix(format, 7);
  std::vector<std::byte> packed(must(packed_bytes(format)));
  must(pack_matrix(matrix.codes, matrix.scales, matrix.offsets, matrix.table, format, packed, 2));
  EXPECT_EQ(packed, must(pack(matrix)));
  std::vector<std::uint8_t> codes(matrix.codes.size());
  std::vector<std::uint16_t> scales(matrix.scales.size());
  std::vector<std::uint16_t> offsets(matrix.offsets.size());
  std::vector<std::uint16_t> tables(matrix.table.size());
  must(unpack_matrix(packed, format, codes, scales, offsets, tables, 2));
  EXPECT_EQ(codes, matrix.codes);
  EXPECT_EQ(scales, matrix.scales);
  EXPECT_EQ(offsets, matrix.offsets);
  EXPECT_EQ(tables, matrix.table);
  expect_error(pack_matrix(matrix.codes, matrix.scales, matrix.offsets, {}, format, packed, 1),
               ErrorCode::invalid_argument, "tables: 0 values given; allowed: 560");

  constexpr std::int64_t kFirst = 32;
  const std::vector<double> exact = must(dequantize(matrix));
  std::vector<std::uint16_t> weights(static_cast<std::size_t>((kRows - kFirst) * format.k));
  must(dequantize_matrix(packed, format, {}, kFirst, kRows - kFirst,
                         {weights.data(), HostType::f16, format.k}, 2));
  for (std::size_t i = 0; i < weights.size(); ++i) {
    ASSERT_EQ(weights[i], nearest(exact[static_cast<std::size_t>(kFirst * format.k) + i], DataType::f16))
        << i;
  }
  expect_error(
      dequantize_matrix(packed, format, matrix.table, 0, kRows, {weights.data(), HostType::f16, format.k}, 1),
      ErrorCode::invalid_argument, "table: 560 values given; allowed: 0");
}

TEST(RowTables, ReferenceTakesTheTableOfTheRow) {
  const QuantizedMatrix matrix = random_matrix(with_row_tables(4, kPerChannel), 9);
  const std::vector<double> weights = must(dequantize(matrix));
  for (std::size_t i = 0; i < weights.size(); ++i) {
    const std::size_t row = i / static_cast<std::size_t>(kColumns);
    ASSERT_EQ(weights[i], double{from_bits(matrix.scales[row], DataType::f16)} *
                              from_bits(matrix.table[16 * row + matrix.codes[i]], DataType::f16))
        << i;
  }
}

TEST(RowTables, QuantizedRowsAreThoseOfMatricesOfOneRow) {
  constexpr std::int64_t kK = 16384;  // of more slabs than one
  const std::vector<float> weights = random_weights(kRows, kK, 1);
  Table tables{"given", 2, TableKind::row, random_weights(kRows, 4, 2)};
  const QuantizationOptions options{.scales = ScaleChoice::mse};
  const QuantizedMatrix matrix = must(quantize(weights, kRows, kK, tables, 64, DataType::f16, options));
  QuantizationLoss loss;
  for (std::int64_t row = 0; row < kRows; ++row) {
    const auto values = tables.values.begin() + 4 * row;
    const Table own{"given", 2, TableKind::scalar, {values, values + 4}};
    const auto members = std::span(weights).subspan(static_cast<std::size_t>(row * kK), kK);
    const QuantizedMatrix alone = must(quantize(members, 1, kK, own, 64, DataType::f16, loss, options));
    ASSERT_TRUE(std::ranges::equal(alone.codes,
                                   std::span(matrix.codes).subspan(static_cast<std::size_t>(row * kK), kK)));
    ASSERT_TRUE(std::ranges::equal(
        alone.scales, std::span(matrix.scales).subspan(static_cast<std::size_t>(row * kK / 64), kK / 64)));
    ASSERT_TRUE(std::ranges::equal(alone.table,
                                   std::span(matrix.table).subspan(static_cast<std::size_t>(4 * row), 4)));
  }
  std::vector<std::byte> packed(must(packed_bytes(matrix.format)));
  const QuantizationLoss in_slabs =
      must(quantize_matrix({weights.data(), HostType::f32, kK}, matrix.format, tables, packed, 2, options));
  EXPECT_EQ(packed, must(pack(matrix)));
  EXPECT_EQ(in_slabs.rows, kRows);
  EXPECT_NEAR(in_slabs.relative_error(), loss.relative_error(), 1e-12);

  tables.values.pop_back();
  expect_error(quantize(weights, kRows, kK, tables, 64, DataType::f16), ErrorCode::invalid_argument,
               "table: 279 values given; allowed: 4 for each row (2 bits, row)");
  tables.values.resize(276);
  expect_error(quantize(weights, kRows, kK, tables, 64, DataType::f16), ErrorCode::invalid_argument,
               "table: 276 values given; allowed: 280");
}

TEST(RowTables, OfAnotherNumberOrBesideSegmentsAreRefused) {
  QuantizedMatrix matrix = random_matrix(with_row_tables(2, 128));
  matrix.segments = {64, 6};
  expect_error(pack(matrix), ErrorCode::invalid_argument, "segments: 2 given; allowed: none");
  matrix.segments.clear();
  matrix.table.resize(4);
  expect_error(pack(matrix), ErrorCode::invalid_argument,
               "table: 4 values given; allowed: 280 (2 bits, row)");
}

}  // namespace
}  // namespace lutsmith
