// Formats with an offset beside each scale: where offsets stand, and what weights are with them.

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
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

WeightFormat with_offsets(int bits, int group, DataType dtype = DataType::f16,
                          TableKind table = TableKind::scalar) {
  return {.bits = bits,
          .group = group,
          .n = kRows,
          .k = kColumns,
          .dtype = dtype,
          .table = table,
          .offsets = true};
}

TEST(Offsets, ComeBackAsTheyWerePackedBesideCodesAndScales) {
  for (int bits = 1; bits <= 8; ++bits) {
    for (const int group : kAllGroups) {
      const QuantizedMatrix matrix = random_matrix(with_offsets(bits, group), 3);
      const QuantizedMatrix again = must(unpack(must(pack(matrix)), matrix.format));
      EXPECT_EQ(again.codes, matrix.codes) << bits << " bits, group " << group;
      EXPECT_EQ(again.scales, matrix.scales) << bits << " bits, group " << group;
      EXPECT_EQ(again.offsets, matrix.offsets) << bits << " bits, group " << group;
    }
  }
}

TEST(Offsets, OfAGroupStandBehindItsScalesInTheSameOrder) {
  constexpr int kN = 64;
  constexpr int kK = 512;
  for (int bits = 1; bits <= 8; ++bits) {
    for (const int group : kAllGroups) {
      WeightFormat format = with_offsets(bits, group);
      format.n = kN;
      format.k = kK;
      const QuantizedMatrix matrix = random_matrix(format, 6);
      const std::vector<std::byte> packed = must(pack(matrix));
      const int columns = group == kPerChannel ? kK : group;
      const int groups = kK / columns;
      const int code_bytes = 16 * 128 * bits / 8;
      for (int i = 0; i < kN * groups; ++i) {
        const int row = i / groups;
        const int index = i % groups;
        const int half = row % 32 / 16;
        const int in_half = row % 8 * 4 + row % 16 / 8 * 2;
        int byte = 0;
        if (columns <= 128) {
          const int record_bytes = code_bytes + 128 / columns * 64;
          const int panel = row / 32 * (kK / 128) + index * columns / 128;
          byte = (2 * panel + half) * record_bytes + code_bytes + index % (128 / columns) * 64 + in_half;
        } else {
          byte = kN * kK * bits / 8 + ((row / 32 * groups + index) * 2 + half) * 64 + in_half;
        }
        std::uint16_t values[17] = {};
        std::memcpy(values, &packed[static_cast<std::size_t>(byte)], sizeof(values));
        ASSERT_EQ(values[0], matrix.scales[static_cast<std::size_t>(i)])
            << "row " << row << ", group " << index;
        ASSERT_EQ(values[16], matrix.offsets[static_cast<std::size_t>(i)])
            << "row " << row << ", group " << index;
      }
    }
  }
}

TEST(Offsets, TakeTwoBytesForEachScaleAndNothingWithoutThem) {
  for (const int group : kAllGroups) {
    WeightFormat format{.bits = 4, .group = group, .n = 96, .k = 768};
    const std::size_t without = must(packed_bytes(format));
    EXPECT_EQ(without, static_cast<std::size_t>(96 * 768 / 2 + 96 * groups_per_row(group, 768) * 2));
    format.offsets = true;
    EXPECT_EQ(must(packed_bytes(format)),
              without + static_cast<std::size_t>(96 * groups_per_row(group, 768) * 2));
  }
}

TEST(Offsets, OfAnotherNumberAreRefused) {
  QuantizedMatrix matrix = random_matrix(with_offsets(4, 128));
  matrix.offsets.pop_back();
  expect_error(pack(matrix), ErrorCode::invalid_argument, "offsets: 629 values given; allowed: 630");
  matrix.offsets.push_back(0x7c00);
  expect_error(pack(matrix), ErrorCode::invalid_argument, "offsets: inf at index 629");
  matrix.offsets.back() = 0;
  matrix.format.offsets = false;
  expect_error(pack(matrix), ErrorCode::invalid_argument, "allowed: 0 (the format has none)");
}

TEST(Offsets, AreNotChosenWhereScalesAloneAre) {
  const std::vector<float> weights = random_weights(kRows, kColumns, 1);
  const WeightFormat format = with_offsets(4, 128);
  std::vector<std::byte> packed(must(packed_bytes(format)));
  expect_error(
      quantize_matrix({weights.data(), HostType::f32, kColumns}, format, must(integer_table(4)), packed, 1),
      ErrorCode::invalid_argument, "offsets: on is not allowed here");
}

TEST(Offsets, DequantizedWeightsAreRoundedOnce) {
  for (const TableKind kind : {TableKind::scalar, TableKind::pair}) {
    for (const int group : kAllGroups) {
      for (const DataType dtype : {DataType::f16, DataType::bf16}) {
        const QuantizedMatrix matrix = random_matrix(with_offsets(3, group, dtype, kind), 9);
        const std::vector<std::byte> packed = must(pack(matrix));
        const std::vector<double> exact = must(dequantize(matrix));
        std::vector<std::uint16_t> words(exact.size());
        std::vector<float> floats(exact.size());
        const HostType host = dtype == DataType::f16 ? HostType::f16 : HostType::bf16;
        must(dequantize_matrix(packed, matrix.format, matrix.table, 0, kRows, {words.data(), host, kColumns},
                               1));
        must(dequantize_matrix(packed, matrix.format, matrix.table, 0, kRows,
                               {floats.data(), HostType::f32, kColumns}, 1));
        for (std::size_t i = 0; i < exact.size(); ++i) {
          ASSERT_EQ(words[i], nearest(exact[i], dtype)) << i;
          ASSERT_EQ(floats[i], static_cast<float>(exact[i])) << i;
        }
      }
    }
  }
}

TEST(Offsets, SumsThatAFloatWouldRoundToATieAreRoundedToTheNearest) {
  // All products of two f16 between 1 and 2, a little above or below half a unit of the last place of 1.
  constexpr std::int64_t kCount = 1024;
  WeightFormat format{.bits = 1, .group = 32, .n = 1024, .k = 32, .offsets = true};
  QuantizedMatrix matrix = random_matrix(format);
  for (std::size_t i = 0; i < kCount; ++i)
    matrix.scales[i] = to_bits(static_cast<float>(1024 + i) * 0x1p-22F, DataType::f16);
  std::ranges::fill(matrix.offsets, to_bits(1, DataType::f16));
  int twice = 0;  // weights that rounding to a float first would have made different
  for (int y = 1024; y < 2048; ++y) {
    if (y % 16 != 15) continue;
    matrix.table = {to_bits(static_cast<float>(y) * 0x1p-10F, DataType::f16),
                    to_bits(static_cast<float>(y) * -0x1p-10F, DataType::f16)};
    const std::vector<double> exact = must(dequantize(matrix));
    std::vector<std::uint16_t> words(exact.size());
    must(dequantize_matrix(must(pack(matrix)), format, matrix.table, 0, kCount,
                           {words.data(), HostType::f16, 32}, 1));
    for (std::size_t i = 0; i < exact.size(); ++i) {
      ASSERT_EQ(words[i], nearest(exact[i], DataType::f16)) << exact[i];
      twice += words[i] != to_bits(static_cast<float>(exact[i]), DataType::f16) ? 1 : 0;
    }
  }
  EXPECT_GT(twice, 0);
}

}  // namespace
}  // namespace lutsmith
