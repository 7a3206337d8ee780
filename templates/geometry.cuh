#pragma once

#include "templates/kernel_arguments.h"
#include "templates/packed_layout.h"

// How a kernel's constants cut the product into tiles, steps and units.
//
//             k: 0      128     256  ...                      K
//                +-------+-------+-------+-------+-------+----
//   tile_rows x  | warp 0| warp 1|  ...  |warp 0 | warp 1|  ...      a row tile: all of K
//                +-------+-------+-------+-------+-------+----
//                |<------ step 0 ------->|<------ step 1 ------
//
// A tile is tile_rows output channels by tile_tokens tokens. A step takes the block (warps x 128)
// along K, a unit (tile_rows x 128) for each warp. Tiles are numbered row tile by row tile, the token
// tiles of one row tile together, so that they find its weights in L2.

namespace lutsmith::device {

template <class Config>
struct Geometry {
  static constexpr int kRecords = Config::kTileRows / layout::kRecordRows;  // of one unit
  static constexpr int kTokenGroups = (Config::kTileTokens + 7) / 8;        // n of one mma is 8
  static constexpr int kThreads = Config::kWarps * layout::kLanes;
  static constexpr int kRowTiles = (Config::kN + Config::kTileRows - 1) / Config::kTileRows;
  static constexpr int kColumnBlocks = static_cast<int>(layout::column_blocks(Config::kK));
  static constexpr int kStepsPerTile = (kColumnBlocks + Config::kWarps - 1) / Config::kWarps;
  static constexpr bool kWholeSteps = kColumnBlocks % Config::kWarps == 0;
  static constexpr bool kWholeColumns = Config::kK % layout::kRecordColumns == 0;
  static constexpr bool kWholeRows = Config::kN % Config::kTileRows == 0;

  static constexpr int kRecordBytes = layout::record_bytes(Config::kBits, Config::kGroup);
  static constexpr int kBlockBytes = layout::block_bytes(Config::kBits, Config::kGroup);
  static constexpr bool kScalesInRecord = layout::scales_in_record(Config::kGroup);
  static constexpr bool kPerChannel = Config::kGroup == layout::kPerChannelGroup;
  /// Scales each row needs in one unit; none where the channel's scale is applied at the end.
  static constexpr int kUnitGroups = kPerChannel ? 0 : kScalesInRecord ? 128 / Config::kGroup : 1;
  static constexpr long long kPlaneOffset =
      layout::plane_offset(Config::kBits, Config::kGroup, Config::kN, Config::kK);
  static constexpr int kPlaneGroups = static_cast<int>(layout::plane_groups(Config::kGroup, Config::kK));

  /// Offset of the unit at (row tile, column block): one block, or one of its two records.
  static __device__ __forceinline__ long long unit_offset(int row_tile, int column_block) {
    if constexpr (kRecords == 2) {
      return (static_cast<long long>(row_tile) * kColumnBlocks + column_block) * kBlockBytes;
    } else {
      return (static_cast<long long>(row_tile / 2) * kColumnBlocks + column_block) * kBlockBytes +
             row_tile % 2 * kRecordBytes;
    }
  }

  /// Offset of the scales of the unit's first record, where they stand in the plane.
  static __device__ __forceinline__ long long plane_scales_offset(int row_tile, int group) {
    const int row_block = kRecords == 2 ? row_tile : row_tile / 2;
    const int half = kRecords == 2 ? 0 : row_tile % 2;
    return kPlaneOffset +
           ((static_cast<long long>(row_block) * kPlaneGroups + group) * 2 + half) * layout::kGroupScaleBytes;
  }

  /// The group of a column block whose scales stand in the plane.
  static __device__ __forceinline__ int plane_group(int column_block) {
    return column_block / (Config::kGroup / layout::kRecordColumns);
  }
};

/// Where a warp is in its partition: the tile, and the step within it.
template <class Config>
struct Cursor {
  using G = Geometry<Config>;

  int row_tile;
  int token_tile;
  int step;
  int steps_left;  ///< of the partition, this one included
  int token_tiles;

  __device__ __forceinline__ Cursor(int first_step, int count, int token_tiles_)
      : steps_left(count), token_tiles(token_tiles_) {
    const int tile = first_step / G::kStepsPerTile;
    step = first_step % G::kStepsPerTile;
    row_tile = tile / token_tiles;
    token_tile = tile % token_tiles;
  }

  __device__ __forceinline__ bool at_end() const { return steps_left <= 0; }
  __device__ __forceinline__ bool last_of_tile() const { return step == G::kStepsPerTile - 1; }
  __device__ __forceinline__ int tile() const { return row_tile * token_tiles + token_tile; }

  /// The block of columns this warp takes at this step.
  __device__ __forceinline__ int column_block(int warp) const { return step * Config::kWarps + warp; }

  /// Whether there is one: the last step of a tile may be ragged.
  __device__ __forceinline__ bool has_unit(int warp) const {
    return !at_end() && (G::kWholeSteps || column_block(warp) < G::kColumnBlocks);
  }

  __device__ __forceinline__ void advance() {
    --steps_left;
    if (++step < G::kStepsPerTile) return;
    step = 0;
    if (++token_tile < token_tiles) return;
    token_tile = 0;
    ++row_tile;
  }
};

}  // namespace lutsmith::device
