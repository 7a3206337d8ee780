#include <gtest/gtest.h>

#include <bit>
#include <cstring>
#include <vector>

#include "expect_error.h"
#include "lutsmith/quantization.h"
#include "random_matrix.h"

namespace lutsmith {
namespace {

struct Shape {
  std::int64_t n;
  std::int64_t k;
};

constexpr std::array kShapes = {Shape{1, 8},   Shape{16, 128}, Shape{17, 136},  Shape{32, 256},
                                Shape{33, 40}, Shape{70, 392}, Shape{100, 1032}};

std::string name(const WeightFormat& format) {
  return std::to_string(format.bits) + " bits, group " + group_name(format.group) + ", " +
         std::to_string(format.n) + " x " + std::to_string(format.k);
}

template <class Check>
void for_every_format(const Check& check) {
  for (int bits = 1; bits <= 8; ++bits) {
    for (const int group : kAllGroups) {
      for (const Shape& shape : kShapes) {
        const WeightFormat format{bits, group, shape.n, shape.k};
        SCOPED_TRACE(name(format));
        check(format);
        if (testing::Test::HasFatalFailure()) return;
      }
    }
  }
}

std::size_t set_bits(std::span<const std::uint8_t> bytes) {
  std::size_t count = 0;
  for (const std::uint8_t byte : bytes) count += static_cast<std::size_t>(std::popcount(byte));
  return count;
}

std::size_t set_bits(std::span<const std::uint16_t> numbers) {
  std::size_t count = 0;
  for (const std::uint16_t number : numbers) count += static_cast<std::size_t>(std::popcount(number));
  return count;
}

unsigned read_bits(std::span<const std::byte> bytes, int byte, int bit, int count) {
  std::uint32_t word = 0;
  std::memcpy(&word, bytes.data() + byte, sizeof(word));
  return word >> bit & ((1U << count) - 1);
}

TEST(Packer, UnpackingGivesBackEveryCodeAndScale) {
  for_every_format([](const WeightFormat& format) {
    const QuantizedMatrix matrix = random_matrix(format);
    const auto packed = pack(matrix);
    ASSERT_TRUE(packed) << packed.error().message;
    const auto unpacked = unpack(*packed, format);
    ASSERT_TRUE(unpacked) << unpacked.error().message;
    EXPECT_EQ(unpacked->codes, matrix.codes);
    EXPECT_EQ(unpacked->scales, matrix.scales);
  });
}

TEST(Packer, NegativeScalesAndNegativeZeroKeepTheirSigns) {
  for (const int group : kAllGroups) {
    SCOPED_TRACE(group_name(group));
    QuantizedMatrix matrix = random_matrix({4, group, 33, 264});
    for (std::size_t i = 0; i < matrix.scales.size(); ++i) {
      matrix.scales[i] = static_cast<std::uint16_t>(i % 3 == 0 ? 0x8000 : matrix.scales[i] ^ 0x8000);
    }
    const auto packed = pack(matrix);
    ASSERT_TRUE(packed) << packed.error().message;
    EXPECT_EQ(unpack(*packed, matrix.format)->scales, matrix.scales);
  }
}

TEST(Packer, PaddingIsZeroAndNothingIsStoredTwice) {
  for_every_format([](const WeightFormat& format) {
    WeightFormat brain = format;
    brain.dtype = DataType::bf16;
    const QuantizedMatrix matrix = random_matrix(brain, 3);
    const auto packed = pack(matrix);
    ASSERT_TRUE(packed);
    const std::span bytes(reinterpret_cast<const std::uint8_t*>(packed->data()), packed->size());
    EXPECT_EQ(set_bits(bytes), set_bits(std::span(matrix.codes)) + set_bits(std::span(matrix.scales)));
  });
}

TEST(Packer, WithoutPaddingEveryCodeTakesItsBitsAndEveryScaleTwoBytes) {
  for (int bits = 1; bits <= 8; ++bits) {
    for (const int group : kAllGroups) {
      const WeightFormat format{bits, group, 96, 768};
      const std::int64_t groups = group == kPerChannel ? 1 : 768 / group;
      EXPECT_EQ(*packed_bytes(format), static_cast<std::size_t>(96 * 768 * bits / 8 + 96 * groups * 2))
          << name(format);
      EXPECT_EQ(pack(random_matrix(format))->size(), *packed_bytes(format));
    }
  }
}

TEST(Packer, RaggedShapesTakeTheBytesOfTheirPaddedOnes) {
  for (int bits = 1; bits <= 8; ++bits) {
    for (const int group : {32, 64, 128, kPerChannel}) {
      EXPECT_EQ(*packed_bytes({bits, group, 33, 136}), *packed_bytes({bits, group, 64, 256}));
    }
    // The plane has a group of 256 where it exists: 2 of them at k = 384, though 3 panels.
    const std::size_t codes = std::size_t{64} * 384 / 8 * static_cast<std::size_t>(bits);
    EXPECT_EQ(*packed_bytes({bits, 256, 33, 264}), codes + std::size_t{64} * 2 * 2);
  }
}

// The picture of the layout, followed from the device's side: what lane, MMA, register and element
// hold, and where a 16-byte load finds it.
TEST(Packer, EveryLaneFindsItsFragmentWhereTheLayoutSays) {
  constexpr int kRows = 64;
  constexpr int kColumns = 384;
  for (int bits = 1; bits <= 8; ++bits) {
    for (const int group : kAllGroups) {
      const WeightFormat format{bits, group, kRows, kColumns};
      SCOPED_TRACE(name(format));
      const QuantizedMatrix matrix = random_matrix(format, 5);
      const std::vector<std::byte> packed = *pack(matrix);
      const int scale_bytes = group != kPerChannel && group <= 128 ? 128 / group * 16 * 2 : 0;
      const int record_bytes = 16 * 128 * bits / 8 + scale_bytes;
      for (int record = 0; record < kRows / 16 * (kColumns / 128); ++record) {
        const int first_row = record / 2 / 3 * 32 + record % 2 * 16;
        const int first_column = record / 2 % 3 * 128;
        for (int i = 0; i < 32 * 8 * 4 * 2; ++i) {
          const int lane = i / 64;
          const int j = i / 8 % 8;
          const int a = i / 2 % 4;
          const int e = i % 2;
          const int g = lane / 4;
          const int t = lane % 4;
          const int row = first_row + g + 8 * (a % 2);
          const int column = first_column + 32 * (j / 2) + 8 * t + 4 * (j % 2) + 2 * (a / 2) + e;
          unsigned code = 0;
          int slice_start = record * record_bytes;
          for (int done = 0; done < bits;) {
            const int s = bits - done >= 4 ? 4 : bits - done >= 2 ? 2 : 1;
            const int word = j / (4 / s);
            const int byte = s == 4   ? word / 4 * 512 + lane * 16 + word % 4 * 4
                             : s == 2 ? lane * 16 + word * 4
                                      : lane * 8 + word * 4;
            const int bit = 4 * (2 * a + e) + j % (4 / s) * s;
            code |= read_bits(packed, slice_start + byte, bit, s) << done;
            slice_start += 16 * 128 * s / 8;
            done += s;
          }
          ASSERT_EQ(code, matrix.codes[static_cast<std::size_t>(row * kColumns + column)])
              << "row " << row << ", column " << column;
        }
      }
    }
  }
}

TEST(Packer, ScalesStandWhereTheLayoutSays) {
  constexpr int kRows = 64;
  constexpr int kColumns = 512;
  for (int bits = 1; bits <= 8; ++bits) {
    for (const int group : kAllGroups) {
      const WeightFormat format{bits, group, kRows, kColumns};
      SCOPED_TRACE(name(format));
      const QuantizedMatrix matrix = random_matrix(format, 6);
      const std::vector<std::byte> packed = *pack(matrix);
      const int columns = group == kPerChannel ? kColumns : group;
      const int groups = kColumns / columns;
      const int code_bytes = 16 * 128 * bits / 8;
      for (int row = 0; row < kRows; ++row) {
        const int half = row % 32 / 16;
        const int in_half = row % 8 * 4 + row % 16 / 8 * 2;
        for (int index = 0; index < groups; ++index) {
          int byte = 0;
          if (columns <= 128) {
            const int record_bytes = code_bytes + 128 / columns * 32;
            const int panel = row / 32 * (kColumns / 128) + index * columns / 128;
            byte = (2 * panel + half) * record_bytes + code_bytes + index % (128 / columns) * 32 + in_half;
          } else {
            byte = kRows * kColumns * bits / 8 + ((row / 32 * groups + index) * 2 + half) * 32 + in_half;
          }
          std::uint16_t scale = 0;
          std::memcpy(&scale, &packed[static_cast<std::size_t>(byte)], sizeof(scale));
          ASSERT_EQ(scale, matrix.scales[static_cast<std::size_t>(row * groups + index)])
              << "row " << row << ", group " << index;
        }
      }
    }
  }
}

TEST(Packer, PairTablesPackTheSameCodes) {
  const QuantizedMatrix pairs = random_matrix({3, 64, 40, 200, DataType::bf16, TableKind::pair});
  QuantizedMatrix scalars = random_matrix({3, 64, 40, 200, DataType::bf16, TableKind::scalar});
  scalars.codes = pairs.codes;
  scalars.scales = pairs.scales;
  EXPECT_EQ(*pack(pairs), *pack(scalars));
}

TEST(Packer, GroupsOfARowAreRoundedUp) {
  EXPECT_EQ(groups_per_row(64, 8), 1);
  EXPECT_EQ(groups_per_row(64, 64), 1);
  EXPECT_EQ(groups_per_row(64, 72), 2);
  EXPECT_EQ(groups_per_row(kPerChannel, 5000), 1);
}

TEST(Packer, BadFormatsAreRefusedByName) {
  expect_error(packed_bytes({0, 128, 32, 128}), ErrorCode::invalid_argument, "bits", "0", "1 to 8");
  expect_error(packed_bytes({9, 128, 32, 128}), ErrorCode::invalid_argument, "bits", "9", "1 to 8");
  expect_error(packed_bytes({4, 48, 32, 128}), ErrorCode::invalid_argument, "group", "48");
  expect_error(packed_bytes({4, 128, 0, 128}), ErrorCode::invalid_argument, "n:", "0");
  expect_error(packed_bytes({4, 128, 32, 100}), ErrorCode::invalid_argument, "k:", "100");
  expect_error(packed_bytes({4, 128, INT64_MAX, 128}), ErrorCode::invalid_argument, "n:");
  expect_error(packed_bytes({4, 128, 32, INT64_MAX - 7}), ErrorCode::invalid_argument, "k:");
}

TEST(Packer, MatricesThatContradictThemselvesAreRefused) {
  const QuantizedMatrix good = random_matrix({3, 32, 20, 72});
  ASSERT_TRUE(pack(good));
  const auto spoiled = [&](auto spoil) {
    QuantizedMatrix matrix = good;
    spoil(matrix);
    return pack(matrix);
  };
  expect_error(spoiled([](QuantizedMatrix& matrix) { matrix.codes.pop_back(); }), ErrorCode::invalid_argument,
               "codes", "1439", "1440");
  expect_error(spoiled([](QuantizedMatrix& matrix) { matrix.codes[2 * 72 + 5] = 8; }),
               ErrorCode::invalid_argument, "codes", "8", "row 2, column 5", "0 to 7");
  expect_error(spoiled([](QuantizedMatrix& matrix) { matrix.scales.push_back(0); }),
               ErrorCode::invalid_argument, "scales", "61", "60");
  expect_error(spoiled([](QuantizedMatrix& matrix) { matrix.scales[7] = 0x7c00; }),
               ErrorCode::invalid_argument, "scales", "inf", "index 7");
  expect_error(spoiled([](QuantizedMatrix& matrix) { matrix.table.clear(); }), ErrorCode::invalid_argument,
               "table", "0 values", "8");
  expect_error(spoiled([](QuantizedMatrix& matrix) { matrix.table[1] = 0x7e00; }),
               ErrorCode::invalid_argument, "table", "nan", "index 1");
  expect_error(spoiled([](QuantizedMatrix& matrix) { matrix.format.bits = 9; }), ErrorCode::invalid_argument,
               "bits", "9");
  expect_error(spoiled([](QuantizedMatrix& matrix) { matrix.format.dtype = static_cast<DataType>(3); }),
               ErrorCode::invalid_argument, "dtype", "3");
  expect_error(spoiled([](QuantizedMatrix& matrix) { matrix.format.table = static_cast<TableKind>(3); }),
               ErrorCode::invalid_argument, "table", "3");
}

TEST(Packer, UnpackingBytesOfAnotherSizeIsRefused) {
  const WeightFormat format{4, 128, 32, 128};
  std::vector<std::byte> packed = *pack(random_matrix(format));
  packed.pop_back();
  expect_error(unpack(packed, format), ErrorCode::invalid_argument, "packed weights", "2111", "2112");
  expect_error(unpack(packed, {4, 100, 32, 128}), ErrorCode::invalid_argument, "group", "100");
}

}  // namespace
}  // namespace lutsmith
