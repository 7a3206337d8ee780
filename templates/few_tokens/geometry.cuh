#pragma once

#include "templates/abi/kernel_arguments.h"
#include "templates/abi/packed_layout.h"

// How a kernel's constants cut the product into tiles, steps and units.
//
//             k: 0      128     256  ...                      K
//                +-------+-------+-------+-------+-------+----
//   tile_rows x  | warp 0| warp 1|  ...  |warp 0 | warp 1|  ...      a row tile: all of K
//                +-------+-------+-------+-------+-------+----
//                |<------ step 0 ------->|<------ step 1 ------
//
// A tile is tile_rows output channels by tile_tokens tokens. A step takes (warps x 128)
// along K, a unit (tile_rows x 128) for each warp. Tiles are numbered row tile by row tile, the token
// tiles of one row tile together, so that they find its weights in L2.

namespace lutsmith::device {

template <class Config>
LUTSMITH_HOST_DEVICE constexpr PackedLayout packed_layout_of() {
  return {Config::kBits, Config::kGroup, Config::kN, Config::kK, Config::kOffsets, Config::kRowTables};
}

template <class Config>
struct Geometry {
  static constexpr int kRecords = Config::kTileRows / layout::kRecordRows;  // of one unit
  static constexpr int kTokenOctets = (Config::kTileTokens + 7) / 8;        // n of one mma is 8
  static_assert(Config::kTileTokens == 1 || Config::kTileTokens % 8 == 0, "octets are whole");
  static constexpr bool kEqualParts = false;
  static constexpr int kTileElements = Config::kTileRows * Config::kTileTokens;
  static constexpr int kThreads = Config::kWarps * layout::kLanes;
  static constexpr int kColumnPanels = static_cast<int>(packed_layout_of<Config>().column_panels());
  static constexpr int kStepsPerTile = (kColumnPanels + Config::kWarps - 1) / Config::kWarps;
  static constexpr bool kWholeSteps = kColumnPanels % Config::kWarps == 0;
  static constexpr bool kWholeColumns = Config::kK % layout::kRecordColumns == 0;
  static constexpr bool kNoRaggedEnd = kWholeColumns && kWholeSteps;
  static constexpr bool kOneToken = Config::kTileTokens == 1;
  static constexpr bool kWholeRows = Config::kN % Config::kTileRows == 0;
  static constexpr int kRowPanels = static_cast<int>(packed_layout_of<Config>().row_panels());

  static constexpr int kRecordBytes = packed_layout_of<Config>().record_bytes();
  static constexpr int kPanelBytes = packed_layout_of<Config>().panel_bytes();
  static constexpr int kGroupBytes = packed_layout_of<Config>().group_bytes();
  static constexpr bool kScalesInRecord = packed_layout_of<Config>().scales_in_record();
  /// Scales are applied to the finished sums.
  static constexpr bool kPerChannel = packed_layout_of<Config>().scales_of_sums();
  /// Scales each row needs in one unit; none where the channel's scale is applied at the end.
  static constexpr int kUnitGroups = kPerChannel       ? 0
                                     : kScalesInRecord ? packed_layout_of<Config>().groups_per_record()
                                                       : 1;

  /// Offset of the unit at (row tile, column panel): one panel, one of its two records, or the first of two
  /// panels.
  static __device__ __forceinline__ long long unit_offset(int row_tile, int column_panel) {
    return packed_layout_of<Config>().record_offset(row_tile * kRecords, column_panel);
  }

  /// Offset of the scales of the unit's first record, where they stand in the plane.
  static __device__ __forceinline__ long long plane_scales_offset(int row_tile, int group) {
    return packed_layout_of<Config>().plane_group_offset(row_tile * kRecords, group);
  }

  /// The group of a column panel whose scales stand in the plane.
  static __device__ __forceinline__ int plane_group(int column_panel) {
    return packed_layout_of<Config>().plane_group(column_panel);
  }
};

/// A position in the sequence of steps of one partition.
template <class Config>
struct Walk {
  using G = Geometry<Config>;
  static constexpr bool kPacesPriming = true;  ///< the kernel calls continue_priming() of its weights

  int steps_left;  ///< of the partition, the one it stands at included
  int step;        ///< within the tile
  int row_tile;
  int token_tile;
  int token_tiles;

  __device__ __forceinline__ Walk(int first_step, int count, int token_tiles_)
      : steps_left(count), token_tile(0), token_tiles(token_tiles_) {
    row_tile = first_step / G::kStepsPerTile;
    step = first_step - row_tile * G::kStepsPerTile;
    if (token_tiles > 1) {  // spares a division on its way to the first load
      token_tile = row_tile % token_tiles;
      row_tile /= token_tiles;
    }
  }

  __device__ __forceinline__ int tile() const { return row_tile * token_tiles + token_tile; }

  /// Whether a warp has a unit here: the last step of a tile may be ragged.
  __device__ __forceinline__ bool has_unit(int warp) const {
    return steps_left > 0 && (G::kWholeSteps || step * Config::kWarps + warp < G::kColumnPanels);
  }

  __device__ __forceinline__ void next_tile() {
    step = 0;
    if (++token_tile < token_tiles) return;
    token_tile = 0;
    ++row_tile;
  }

  /// Goes one step on; true when that begins another tile.
  __device__ __forceinline__ bool advance() {
    --steps_left;
    if (++step < G::kStepsPerTile) return false;
    next_tile();
    return true;
  }
};

/// The units of one warp, one after another.
template <class Config>
class UnitWalk {
 public:
  using G = Geometry<Config>;

  __device__ __forceinline__ UnitWalk(const unsigned char* weights, const Walk<Config>& first, int warp)
      : weights_(weights), walk_(first), warp_(warp) {
    unit_ = weights_ + G::unit_offset(walk_.row_tile, column_panel());
  }

  __device__ __forceinline__ bool at_end() const { return walk_.steps_left <= 0; }
  __device__ __forceinline__ bool has_unit() const { return walk_.has_unit(warp_); }
  __device__ __forceinline__ const unsigned char* unit() const { return unit_; }

  /// The scales of the unit's first record, where they stand in the plane.
  __device__ __forceinline__ const unsigned char* plane_scales() const {
    return weights_ + G::plane_scales_offset(walk_.row_tile, G::plane_group(column_panel()));
  }

  /// Bytes from the unit's first panel to its second, and from the scales of the one to those of the other.
  /// Where the last tile has one panel it stands for both: its rows have no place in Y.
  __device__ __forceinline__ long long to_second_panel() const {
    return has_second_panel() ? packed_layout_of<Config>().row_panel_bytes() : 0;
  }
  __device__ __forceinline__ long long to_second_plane_scales() const {
    return has_second_panel() ? packed_layout_of<Config>().row_panel_plane_bytes() : 0;
  }

  __device__ __forceinline__ void advance() {
    if (walk_.advance()) {
      unit_ = weights_ + G::unit_offset(walk_.row_tile, warp_);
    } else {
      unit_ += Config::kWarps * G::kPanelBytes;
    }
  }

 private:
  __device__ __forceinline__ int column_panel() const { return walk_.step * Config::kWarps + warp_; }
  __device__ __forceinline__ bool has_second_panel() const {
    return G::kRowPanels % 2 == 0 || 2 * walk_.row_tile + 1 < G::kRowPanels;
  }

  const unsigned char* weights_;
  const unsigned char* unit_;
  Walk<Config> walk_;
  int warp_;
};

}  // namespace lutsmith::device
