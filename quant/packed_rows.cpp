#include "quant/packed_rows.h"

#include <algorithm>

#include "templates/abi/packed_layout.h"

namespace lutsmith {
namespace {

// As floats, codes and packed bytes, about 4 MB for each thread at work.
constexpr std::int64_t kWeightsPerSlab = 1 << 19;

std::uint64_t unsigned_of(long long value) { return static_cast<std::uint64_t>(value); }

}  // namespace

std::vector<RowSlab> row_slabs(std::int64_t n, std::int64_t k) {
  const std::int64_t panels = std::max<std::int64_t>(1, kWeightsPerSlab / k / layout::kPanelRows);
  const std::int64_t rows = panels * layout::kPanelRows;
  std::vector<RowSlab> slabs;
  for (std::int64_t first = 0; first < n; first += rows) slabs.push_back({first, std::min(rows, n - first)});
  return slabs;
}

std::array<PackedPiece, 3> packed_pieces(const RowSlab& slab, const WeightFormat& matrix,
                                         std::span<const std::byte> packed_slab) {
  const PackedLayout whole = packed_layout(matrix);
  const std::int64_t first_panel = slab.first / layout::kPanelRows;
  PackedLayout of_slab = whole;
  of_slab.n = slab.rows;
  const std::uint64_t scales = unsigned_of(of_slab.plane_offset());
  const std::uint64_t tables = unsigned_of(of_slab.tables_offset());
  return {{{unsigned_of(first_panel * whole.row_panel_bytes()), packed_slab.first(scales)},
           {unsigned_of(whole.plane_offset() + first_panel * whole.row_panel_plane_bytes()),
            packed_slab.subspan(scales, tables - scales)},
           {unsigned_of(whole.tables_offset() + first_panel * whole.row_panel_table_bytes()),
            packed_slab.subspan(tables)}}};
}

}  // namespace lutsmith
