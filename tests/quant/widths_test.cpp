// Every width of codes goes the whole way: quantized, packed, unpacked and multiplied.

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "lutsmith/quantization.h"
#include "random_matrix.h"

namespace lutsmith {
namespace {

constexpr std::int64_t kRows = 35;
constexpr std::int64_t kColumns = 264;

class Widths : public testing::TestWithParam<int> {};

TEST_P(Widths, PackedWeightsAreWhatTheirCodesScalesAndTableSay) {
  for (const int group : kAllGroups) {
    for (const DataType dtype : {DataType::f16, DataType::bf16}) {
      for (const TableKind kind : {TableKind::scalar, TableKind::pair}) {
        SCOPED_TRACE("group " + group_name(group) + ", " + std::string(to_string(dtype)) + ", " +
                     std::string(to_string(kind)));
        const QuantizedMatrix matrix = random_matrix({GetParam(), group, kRows, kColumns, dtype, kind});
        auto unpacked = unpack(*pack(matrix), matrix.format);
        ASSERT_TRUE(unpacked) << unpacked.error().message;
        EXPECT_EQ(unpacked->format, matrix.format);
        unpacked->table = matrix.table;
        const auto weights = dequantize(*unpacked);
        ASSERT_TRUE(weights) << weights.error().message;
        const std::int64_t groups = groups_per_row(group, kColumns);
        const std::size_t width = kind == TableKind::pair ? 2 : 1;
        for (std::size_t i = 0; i < weights->size(); ++i) {
          const auto row = static_cast<std::int64_t>(i) / kColumns;
          const auto column = static_cast<std::int64_t>(i) % kColumns;
          const auto scale = row * groups + (group == kPerChannel ? 0 : column / group);
          std::size_t entry = matrix.codes[i];
          if (kind == TableKind::pair) {
            const std::size_t even = i - i % 2;
            entry =
                matrix.codes[even] + (static_cast<std::size_t>(matrix.codes[even + 1]) << matrix.format.bits);
          }
          const double value = from_bits(matrix.table[width * entry + (width == 2 ? i % 2 : 0)], dtype);
          ASSERT_EQ((*weights)[i], value * from_bits(matrix.scales[static_cast<std::size_t>(scale)], dtype))
              << "row " << row << ", column " << column;
        }
      }
    }
  }
}

TEST_P(Widths, ProductsOfPackedWeightsAreThoseOfTheQuantizedOnes) {
  const std::vector<float> given = random_weights(kRows, kColumns, 21);
  const Table table = *integer_table(GetParam());
  for (const int group : kAllGroups) {
    SCOPED_TRACE("group " + group_name(group));
    const auto matrix = quantize(given, kRows, kColumns, table, group, DataType::f16);
    ASSERT_TRUE(matrix) << matrix.error().message;
    auto unpacked = unpack(*pack(*matrix), matrix->format);
    ASSERT_TRUE(unpacked) << unpacked.error().message;
    unpacked->table = matrix->table;
    std::vector<std::uint16_t> activations;
    for (const float value : random_weights(3, kColumns, 22)) {
      activations.push_back(to_bits(value, DataType::f16));
    }
    const auto product = reference_matmul(*unpacked, activations, 3);
    ASSERT_TRUE(product) << product.error().message;
    const std::vector<double> weights = *dequantize(*matrix);
    for (std::int64_t token = 0; token < 3; ++token) {
      for (std::int64_t row = 0; row < kRows; ++row) {
        double sum = 0;
        for (std::int64_t column = 0; column < kColumns; ++column) {
          sum += from_bits(activations[static_cast<std::size_t>(token * kColumns + column)], DataType::f16) *
                 weights[static_cast<std::size_t>(row * kColumns + column)];
        }
        ASSERT_NEAR((*product)[static_cast<std::size_t>(token * kRows + row)], sum, 1e-12);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Bits, Widths, testing::Range(1, 9));

}  // namespace
}  // namespace lutsmith
