#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "lutsmith/quantization.h"

namespace lutsmith {

/// Rows of a matrix that are read, quantized, packed and written together, so that a matrix of any size takes
/// the memory of a few. All slabs but the last have whole panels of the packed layout.
struct RowSlab {
  std::int64_t first = 0;
  std::int64_t rows = 0;
};

/// The slabs of a matrix [n, k], from the first row to the last.
std::vector<RowSlab> row_slabs(std::int64_t n, std::int64_t k);

/// Bytes of a packed slab and where in the packed matrix they stand.
struct PackedPiece {
  std::uint64_t offset = 0;
  std::span<const std::byte> bytes;
};

/// A slab packed as a matrix of its own, taken apart: its panels, its scales where these stand in a plane of
/// their own, and its tables where rows have them (else those pieces are empty).
std::array<PackedPiece, 3> packed_pieces(const RowSlab& slab, const WeightFormat& matrix,
                                         std::span<const std::byte> packed_slab);

}  // namespace lutsmith
