#include "checkpoint/packed_rows.h"

#include <algorithm>

#include "templates/abi/packed_layout.h"

namespace lutsmith {
namespace {

// As floats, codes and packed bytes, about 4 MB for each thread at work.
constexpr std::int64_t kWeightsPerSlab = 1 << 19;

std::uint64_t unsigned_of(long long value) { return static_cast<std::uint64_t>(value); }

}  // namespace

std::vector<RowSlab> row_slabs(std::int64_t n, std::int64_t k) {
  const std::int64_t blocks = std::max<std::int64_t>(1, kWeightsPerSlab / k / layout::kBlockRows);
  const std::int64_t rows = blocks * layout::kBlockRows;
  std::vector<RowSlab> slabs;
  for (std::int64_t first = 0; first < n; first += rows) slabs.push_back({first, std::min(rows, n - first)});
  return slabs;
}

std::array<PackedPiece, 2> packed_pieces(const RowSlab& slab, const WeightFormat& matrix,
                                         std::span<const std::byte> packed_slab) {
  const PackedLayout whole = packed_layout(matrix);
  const std::int64_t first_block = slab.first / layout::kBlockRows;
  const PackedLayout of_slab{whole.bits, whole.group, slab.rows, whole.k};
  const std::uint64_t blocks = unsigned_of(of_slab.plane_offset());
  return {{{unsigned_of(first_block * whole.row_block_bytes()), packed_slab.first(blocks)},
           {unsigned_of(whole.plane_offset() + first_block * whole.row_block_plane_bytes()),
            packed_slab.subspan(blocks)}}};
}

}  // namespace lutsmith
