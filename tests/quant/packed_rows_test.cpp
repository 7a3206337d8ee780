#include "quant/packed_rows.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

namespace lutsmith {
namespace {

std::vector<float> values(std::int64_t count) {
  std::vector<float> result(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < result.size(); ++i) {
    result[i] = static_cast<float>(std::sin(static_cast<double>(i) * 1.7) * 0.1);
  }
  return result;
}

TEST(RowSlabs, CoverAllRowsInOrderByWholePanels) {
  for (const auto& [n, k] : std::vector<std::pair<std::int64_t, std::int64_t>>{
           {1, 8}, {32, 128}, {33, 128}, {1000, 4096}, {4097, 1024}, {100, 1 << 20}}) {
    std::int64_t next = 0;
    for (const RowSlab& slab : row_slabs(n, k)) {
      EXPECT_EQ(slab.first, next);
      EXPECT_EQ(slab.first % 32, 0);
      EXPECT_GT(slab.rows, 0);
      next += slab.rows;
    }
    EXPECT_EQ(next, n);
  }
}

TEST(RowSlabs, OfALargeMatrixAreManyAndOfASmallOneIsOne) {
  EXPECT_GT(row_slabs(4096, 4096).size(), 8U);
  EXPECT_EQ(row_slabs(384, 384).size(), 1U);
}

TEST(PackedPieces, SlabsPutTogetherAreTheMatrixPackedWhole) {
  constexpr std::int64_t kN = 150;
  constexpr std::int64_t kK = 264;
  const std::vector<RowSlab> slabs{{0, 32}, {32, 64}, {96, 32}, {128, 22}};
  const std::vector<float> weights = values(kN * kK);
  for (int bits = 1; bits <= 8; ++bits) {
    for (const int group : {32, 64, 128, 256, kPerChannel}) {
      const auto table = bits == 1 ? integer_table(bits) : normal_float_table(bits);
      ASSERT_TRUE(table);
      const auto whole = quantize(weights, kN, kK, *table, group, DataType::f16);
      ASSERT_TRUE(whole);
      const auto expected = pack(*whole);
      ASSERT_TRUE(expected);
      std::vector<std::byte> joined(expected->size(), std::byte{0xff});
      for (const RowSlab& slab : slabs) {
        const auto rows = std::span(weights).subspan(static_cast<std::size_t>(slab.first * kK),
                                                     static_cast<std::size_t>(slab.rows * kK));
        const auto matrix = quantize(rows, slab.rows, kK, *table, group, DataType::f16);
        ASSERT_TRUE(matrix);
        const auto packed = pack(*matrix);
        ASSERT_TRUE(packed);
        for (const PackedPiece& piece : packed_pieces(slab, whole->format, *packed)) {
          ASSERT_LE(piece.offset + piece.bytes.size(), joined.size());
          std::ranges::copy(piece.bytes, joined.begin() + static_cast<std::ptrdiff_t>(piece.offset));
        }
      }
      EXPECT_TRUE(joined == *expected) << bits << " bits, group " << group;
    }
  }
}

}  // namespace
}  // namespace lutsmith
