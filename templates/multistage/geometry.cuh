#pragma once

#include "templates/abi/kernel_arguments.h"
#include "templates/few_tokens/geometry.cuh"
#include "templates/look_up/look_up_bytes.h"
#include "templates/multistage/shared_memory.h"
#include "templates/stream_k.cuh"
#include "templates/wave_walk.cuh"

// How a kernel's constants cut the product into tiles, units and the shares of the warps.
//
//             k: 0      128     256  ...                      K
//                +-------+-------+-------+-------+-------+----
//   warp_rows x  | warp 0| warp 2| warp 0| warp 2|  ...            a row tile of two shares of rows, two
//                +-------+-------+-------+-------+-------+----     groups along K: four warps
//   warp_rows x  | warp 1| warp 3| warp 1| warp 3|  ...
//                +-------+-------+-------+-------+-------+----
//                | group0| group1| group0| group1|  ...
//
// A tile is tile_rows output channels by tile_tokens tokens, a unit 128 along K of it: the step of Stream-K.
// A warp has warp_rows of the rows and all of the tokens. With k_groups = 2 the units are taken in turn.

namespace lutsmith::device {

template <class Config>
LUTSMITH_HOST_DEVICE constexpr multistage::SharedMemory multistage_layout_of() {
  return {look_up_bytes(packed_layout_of<Config>(), pair_table::kEntryStride),
          Config::kTileRows,
          Config::kTileTokens,
          Config::kWarpRows,
          Config::kKGroups,
          Config::kStageColumns,
          Config::kActivationStages};
}

template <class Config>
struct MultistageGeometry {
  /// Scales are applied to the finished sums.
  static constexpr bool kPerChannel = packed_layout_of<Config>().scales_of_sums();

  static constexpr int kRowWarps = Config::kTileRows / Config::kWarpRows;  // of a group along K
  static constexpr int kWarps = kRowWarps * Config::kKGroups;
  static constexpr int kThreads = kWarps * layout::kLanes;
  static constexpr int kRowThreads = kRowWarps * layout::kLanes;

  static constexpr int kRecords = Config::kWarpRows / layout::kRecordRows;  // of a warp's share of a unit
  static constexpr int kRecordRows =
      static_cast<int>(packed_layout_of<Config>().row_panels()) * layout::kRecordsPerPanel;
  static constexpr int kTileTokens = Config::kTileTokens;
  static constexpr int kColumnPanels = static_cast<int>(packed_layout_of<Config>().column_panels());
  static constexpr int kRowTiles = (Config::kN + Config::kTileRows - 1) / Config::kTileRows;
  static constexpr bool kWholeColumns = Config::kK % layout::kRecordColumns == 0;
  static constexpr bool kWholeRows = Config::kN % Config::kTileRows == 0;
  static constexpr bool kWholeShares = kRecordRows % (Config::kTileRows / layout::kRecordRows) == 0;

  static constexpr int kOctets = Config::kTileTokens / 8;  // n of one mma is 8
  /// Octets of tokens that each group along K finishes.
  static constexpr int kOwnOctets = kOctets / Config::kKGroups;

  // A vector is 32 k: what a lane reads of X with one load of 16 bytes, for two mma.
  static constexpr int kUnitVectors = layout::kMmaPerRecord / 2;
  static constexpr int kStageVectors = Config::kStageColumns / 32;

  // For Stream-K.
  static constexpr int kBlocks = 1;
  static constexpr int kStepsPerTile = kColumnPanels;
  static constexpr bool kEqualParts = true;
  static constexpr int kTileElements = Config::kTileRows * Config::kTileTokens;

  static_assert(kOctets % Config::kKGroups == 0, "each group along K finishes its share of the octets");
};

/// A position in the units of one group along K.
template <class Config>
class GroupWalk : public WaveWalk<MultistageGeometry<Config>> {
  using Base = WaveWalk<MultistageGeometry<Config>>;

 public:
  __device__ __forceinline__ GroupWalk(const LaunchArguments& launch, int k_group) : Base(launch) {
    if (Config::kKGroups > 1 && k_group > 0) advance_one();
  }

  /// Goes to the group's next unit; true when that lies in another tile.
  __device__ __forceinline__ bool advance() {
    if (Config::kKGroups > 1 && this->advance_in_segment(Config::kKGroups)) return false;
    bool another = false;
#pragma unroll
    for (int i = 0; i < Config::kKGroups; ++i) another |= advance_one();
    return another;
  }

 private:
  __device__ __forceinline__ bool advance_one() { return this->units_left > 0 && Base::advance(); }
};

/// What a warp has of a unit, as weight streams and look-up engines know it: a unit of its own.
template <class Config>
struct WarpShare : Config {
  static constexpr int kTileRows = Config::kWarpRows;
  static constexpr int kWarps = MultistageGeometry<Config>::kWarps;
  static constexpr int kStages = Config::kWeightStages;
};

/// Where a weight stream begins.
template <class Config>
struct Walk<WarpShare<Config>> : GroupWalk<Config> {
  static constexpr bool kPacesPriming = false;

  __device__ __forceinline__ explicit Walk(const GroupWalk<Config>& first) : GroupWalk<Config>(first) {}
};

/// The shares of one warp, one after another.
template <class Config>
class UnitWalk<WarpShare<Config>> {
 public:
  using G = MultistageGeometry<Config>;

  __device__ __forceinline__ UnitWalk(const unsigned char* weights, const Walk<WarpShare<Config>>& first,
                                      int warp)
      : weights_(weights), at_(first), first_record_(warp % G::kRowWarps * G::kRecords) {
    find_share();
  }

  __device__ __forceinline__ bool at_end() const { return at_.units_left <= 0; }
  __device__ __forceinline__ bool has_unit() const { return !at_end(); }
  __device__ __forceinline__ const unsigned char* unit() const { return share_; }

  /// The scales of the share's first record, where they stand in the plane.
  __device__ __forceinline__ const unsigned char* plane_scales() const {
    constexpr PackedLayout kLayout = packed_layout_of<Config>();
    return weights_ + kLayout.plane_group_offset(record_row_, kLayout.plane_group(at_.unit));
  }

  /// The address changes by a constant from unit to unit of a tile.
  __device__ __forceinline__ void advance() {
    share_ += Config::kKGroups * packed_layout_of<Config>().panel_bytes();
    if (at_.advance()) find_share();
  }

 private:
  /// Shares behind the last one of the matrix are the last one again: their rows are not written.
  __device__ __forceinline__ void find_share() {
    record_row_ = at_.place().row_tile * (Config::kTileRows / layout::kRecordRows) + first_record_;
    if constexpr (!G::kWholeShares) record_row_ = min(record_row_, G::kRecordRows - G::kRecords);
    share_ = weights_ + packed_layout_of<Config>().record_offset(record_row_, at_.unit);
  }

  const unsigned char* weights_;
  const unsigned char* share_;
  GroupWalk<Config> at_;
  int first_record_;  ///< of the tile's
  int record_row_;
};

}  // namespace lutsmith::device
