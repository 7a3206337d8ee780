#include "quant/host_matrix.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "expect_error.h"
#include "must.h"

namespace lutsmith {
namespace {

using test::must;

// Of three slabs, the last of which is not a whole panel.
constexpr std::int64_t kN = 70;
constexpr std::int64_t kK = 16384;

std::vector<float> values(std::int64_t count) {
  std::vector<float> result(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < result.size(); ++i) {
    result[i] = static_cast<float>(std::sin(static_cast<double>(i) * 1.7) * 0.1);
  }
  return result;
}

std::vector<std::uint16_t> rounded(const std::vector<float>& numbers, DataType type) {
  std::vector<std::uint16_t> bits;
  for (const float number : numbers) bits.push_back(to_bits(number, type));
  return bits;
}

HostMatrix matrix(const std::vector<float>& weights) { return {weights.data(), HostType::f32, kK}; }

std::vector<std::byte> room_for(const WeightFormat& format) {
  return std::vector<std::byte>(must(packed_bytes(format)), std::byte{0xff});
}

TEST(HostMatrix, QuantizedInSlabsIsTheMatrixQuantizedWhole) {
  const std::vector<float> weights = values(kN * kK);
  for (const int group : {32, 128, 256, kPerChannel}) {
    const WeightFormat format{.bits = 3, .group = group, .n = kN, .k = kK};
    const Table table = must(normal_float_table(3));
    const QuantizedMatrix whole = must(quantize(weights, kN, kK, table, group, DataType::f16));
    for (const unsigned jobs : {1U, 3U}) {
      std::vector<std::byte> packed = room_for(format);
      const QuantizationLoss loss = must(quantize_matrix(matrix(weights), format, table, packed, jobs));
      EXPECT_EQ(packed, must(pack(whole))) << "group " << group << ", " << jobs << " threads";
      EXPECT_EQ(loss.rows, kN);
      EXPECT_GT(loss.relative_error(), 0.01);
    }
  }
}

TEST(HostMatrix, SixteenBitRowsFarApartAreReadAsTheNumbersTheyAre) {
  for (const auto& [type, host] :
       {std::pair(DataType::f16, HostType::f16), {DataType::bf16, HostType::bf16}}) {
    constexpr std::int64_t kColumns = 256;
    constexpr std::int64_t kStride = 300;
    const std::vector<std::uint16_t> wide = rounded(values(kN * kStride), type);
    std::vector<float> weights;
    for (std::int64_t row = 0; row < kN; ++row) {
      for (std::int64_t k = 0; k < kColumns; ++k) {
        weights.push_back(from_bits(wide[static_cast<std::size_t>(row * kStride + k)], type));
      }
    }
    const Table table = must(integer_table(4));
    const WeightFormat format{.bits = 4, .group = 64, .n = kN, .k = kColumns, .dtype = type};
    std::vector<std::byte> packed = room_for(format);
    must(quantize_matrix({wide.data(), host, kStride}, format, table, packed, 1));
    EXPECT_EQ(packed, must(pack(must(quantize(weights, kN, kColumns, table, 64, type)))));
  }
}

TEST(HostMatrix, DequantizedRowsAreScaleTimesTableOfEachType) {
  const std::vector<float> weights = values(kN * kK);
  for (const int group : {64, kPerChannel}) {
    const WeightFormat format{.bits = 2, .group = group, .n = kN, .k = kK};
    const Table table = must(normal_float_table(2));
    const QuantizedMatrix whole = must(quantize(weights, kN, kK, table, group, DataType::f16));
    const std::vector<double> expected = must(dequantize(whole));
    const std::vector<std::byte> packed = must(pack(whole));
    constexpr std::int64_t kFirst = 32;
    constexpr std::int64_t kRows = 37;
    std::vector<float> as_floats(kRows * kK);
    std::vector<std::uint16_t> as_bf16(kRows * kK);
    must(dequantize_matrix(packed, format, whole.table, kFirst, kRows, {as_floats.data(), HostType::f32, kK},
                           2));
    must(dequantize_matrix(packed, format, whole.table, kFirst, kRows, {as_bf16.data(), HostType::bf16, kK},
                           2));
    for (std::size_t i = 0; i < as_floats.size(); ++i) {
      const double right = expected[static_cast<std::size_t>(kFirst * kK) + i];
      ASSERT_EQ(as_floats[i], right) << i;
      ASSERT_EQ(as_bf16[i], to_bits(static_cast<float>(right), DataType::bf16)) << i;
    }
  }
}

TEST(HostMatrix, RowsOfSegmentsHaveTheirTables) {
  QuantizedMatrix whole =
      must(quantize(values(kN * kK), kN, kK, must(normal_float_table(2)), 64, DataType::f16));
  whole.segments = {35, 16, kN - 51};  // which begin in the middle of panels
  whole.table = rounded({-2, -1, 0, 1, 8, 4, 2, -8, 0.25F, 0.5F, -0.5F, 3}, DataType::f16);
  const std::vector<double> expected = must(dequantize(whole));
  const std::vector<std::byte> packed = must(pack(whole));
  constexpr std::int64_t kFirst = 32;
  std::vector<float> weights((kN - kFirst) * kK);
  const WritableHostMatrix into{weights.data(), HostType::f32, kK};
  must(dequantize_matrix(packed, whole.format, whole.table, kFirst, kN - kFirst, into, 2, whole.segments));
  for (std::size_t i = 0; i < weights.size(); ++i) {
    ASSERT_EQ(weights[i], expected[static_cast<std::size_t>(kFirst * kK) + i]) << i;
  }
  const std::vector<std::int64_t> fewer{35, 16};
  EXPECT_NE(dequantize_matrix(packed, whole.format, whole.table, 0, kN, into, 1, fewer)
                .error()
                .message.find("segments: 51 rows in all"),
            std::string::npos);
  EXPECT_FALSE(dequantize_matrix(packed, whole.format, whole.table, 0, kN, into, 1));  // three tables
}

TEST(HostMatrix, PairsOfValuesStandForPairsOfCodes) {
  const WeightFormat format{.bits = 1, .group = 32, .n = 32, .k = 32, .table = TableKind::pair};
  const std::vector<float> pairs{0.5F, -1, 1, 0.25F, -0.5F, -0.5F, 1, 1};
  const Table table = must(given_table(1, TableKind::pair, pairs));
  std::vector<float> weights;
  for (std::size_t i = 0; i < 32 * 32 / 2; ++i)
    weights.insert(weights.end(), {pairs[2 * (i % 4)], pairs[2 * (i % 4) + 1]});
  std::vector<std::byte> packed = room_for(format);
  const QuantizationLoss loss =
      must(quantize_matrix({weights.data(), HostType::f32, 32}, format, table, packed, 1));
  EXPECT_EQ(loss.relative_error(), 0);
  std::vector<float> back(weights.size());
  must(dequantize_matrix(packed, format, rounded(pairs, DataType::f16), 0, 32,
                         {back.data(), HostType::f32, 32}, 1));
  EXPECT_EQ(back, weights);
}

TEST(HostMatrix, CodesAndScalesComeBackAsTheyWerePacked) {
  for (int bits = 1; bits <= 8; ++bits) {
    for (const int group : {32, 256, kPerChannel}) {
      const WeightFormat format{.bits = bits, .group = group, .n = kN, .k = kK};
      std::vector<std::uint8_t> codes(kN * kK);
      for (std::size_t i = 0; i < codes.size(); ++i)
        codes[i] = static_cast<std::uint8_t>(i * 7 % (1U << bits));
      std::vector<std::uint16_t> scales(static_cast<std::size_t>(kN * groups_per_row(group, kK)));
      for (std::size_t i = 0; i < scales.size(); ++i) scales[i] = static_cast<std::uint16_t>(i % 0x7000);
      std::vector<std::byte> packed = room_for(format);
      must(pack_matrix(codes, scales, {}, {}, format, packed, 2));
      std::vector<std::uint8_t> codes_again(codes.size());
      std::vector<std::uint16_t> scales_again(scales.size());
      must(unpack_matrix(packed, format, codes_again, scales_again, {}, {}, 2));
      EXPECT_EQ(codes_again, codes) << bits << " bits, group " << group;
      EXPECT_EQ(scales_again, scales) << bits << " bits, group " << group;
    }
  }
}

TEST(HostMatrix, BadWeightIsNamedByItsRowInTheWholeMatrix) {
  std::vector<float> weights = values(kN * kK);
  weights[65 * kK + 9] = std::numeric_limits<float>::infinity();
  const WeightFormat format{.bits = 4, .group = 64, .n = kN, .k = kK};
  std::vector<std::byte> packed = room_for(format);
  expect_error(quantize_matrix(matrix(weights), format, must(normal_float_table(4)), packed, 2),
               ErrorCode::invalid_argument, "row 65, column 9");
}

}  // namespace
}  // namespace lutsmith
