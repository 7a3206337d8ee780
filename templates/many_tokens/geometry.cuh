#pragma once

#include "templates/abi/kernel_arguments.h"
#include "templates/look_up/pair_table_bytes.h"
#include "templates/many_tokens/shared_memory.h"
#include "templates/primitives/bulk_copy.cuh"
#include "templates/primitives/threads.cuh"
#include "templates/primitives/warpgroups.cuh"
#include "templates/stream_k.cuh"
#include "templates/weights/unit.cuh"

// How a kernel's constants cut the product into tiles and units.
//
//             k: 0      128     256  ...                      K
//                +-------+-------+-------+-------+-------+----
//   tile_rows x  | group0| group1| group0| group1|  ...             a row tile: all of K
//                +-------+-------+-------+-------+-------+----
//
// A tile is tile_rows output channels by tile_tokens tokens, a unit 128 along K of it: the step of Stream-K.
// Every 64 rows have a warpgroup; with k_groups = 2 they have two, which take the units in turn.

namespace lutsmith::device {

/// One record of 16 rows, which a warp holds of a unit, as a unit of its own.
template <class Config>
struct OneRecord : Config {
  static constexpr int kTileRows = layout::kRecordRows;
  static constexpr int kWarps = 1;
};

template <class Config>
LUTSMITH_HOST_DEVICE constexpr many_tokens::SharedMemory shared_layout_of() {
  return {packed_layout_of<Config>(), pair_table::shared_bytes(Config::kBits),
          Config::kTileRows,          Config::kTileTokens,
          Config::kKGroups,           Config::kActivationStages,
          Config::kWeightStages};
}

template <class Config>
struct ManyTokensGeometry {
  static constexpr bool kPerChannel = packed_layout_of<Config>().per_channel();

  static constexpr int kRowGroups = Config::kTileRows / many_tokens::kWarpgroupRows;
  static constexpr int kWarpgroups = kRowGroups * Config::kKGroups;
  static constexpr int kConsumers = kWarpgroups * 128;
  static constexpr int kThreads = kConsumers + 128;  // the first warpgroup brings X and weights
  static constexpr int kRowThreads = kRowGroups * 128;

  static constexpr int kPanels = Config::kTileRows / layout::kPanelRows;  // of a unit
  static constexpr int kColumnPanels = static_cast<int>(packed_layout_of<Config>().column_panels());
  static constexpr int kRowPanels = static_cast<int>(packed_layout_of<Config>().row_panels());
  static constexpr int kRowTiles = (Config::kN + Config::kTileRows - 1) / Config::kTileRows;
  static constexpr bool kWholeRows = Config::kN % Config::kTileRows == 0;
  static constexpr bool kWholePanels = kRowPanels % kPanels == 0;

  static constexpr int kOctets = Config::kTileTokens / 8;
  /// Octets of tokens that each group along K finishes.
  static constexpr int kOwnOctets = kOctets / Config::kKGroups;
  static constexpr int kSums = Config::kTileTokens / 2;  // of a thread

  static constexpr int kStepsPerUnit = layout::kMmaPerRecord;  // products along K
  static constexpr int kStepsPerStage = many_tokens::kStageColumns / 16;
  static constexpr int kBatches = kStepsPerUnit / Config::kCommitSteps;

  // For Stream-K.
  static constexpr int kStepsPerTile = kColumnPanels;
  static constexpr bool kEqualParts = true;
  static constexpr int kTileElements = Config::kTileRows * Config::kTileTokens;

  static_assert(kOwnOctets % 2 == 0, "a store of the output takes two octets");
  static_assert(Config::kWeightStages % Config::kKGroups == 0 &&
                    Config::kActivationStages % (many_tokens::kStagesPerUnit * Config::kKGroups) == 0,
                "a stage belongs to one group along K: the parity of its barriers counts that group's units");
};

/// A position in the units of this block: its range of the tiles that are shared, then its whole tiles. Keeps
/// only what cannot be found again from the launch: registers are scarce where it is used.
template <class Config>
class TileWalk {
 public:
  using G = ManyTokensGeometry<Config>;
  using K = StreamK<G>;

  int units_left;    ///< of the block, the one it stands at included
  int column_panel;  ///< of the unit

  /// At the block's first unit.
  __device__ __forceinline__ explicit TileWalk(const LaunchArguments& launch)
      : column_panel(0), launch_(launch), tile_(block_index()), shared_left_(0) {
    if (block_index() < launch.sharing) {
      const int first = K::first_step(launch, block_index());
      shared_left_ = K::first_step(launch, block_index() + 1) - first;
      if (shared_left_ > 0) {
        tile_ = first_shared() + first / G::kColumnPanels;
        column_panel = first % G::kColumnPanels;
      }
    }
    units_left = shared_left_ + launch.whole_tiles * G::kColumnPanels;
  }

  /// Units from here to the end of the tile or of the range.
  __device__ __forceinline__ int segment() const {
    const int left = G::kColumnPanels - column_panel;
    return shared_left_ > 0 ? min(left, shared_left_) : left;
  }

  __device__ __forceinline__ void next_segment() {
    const int units = segment();
    units_left -= units;
    column_panel = 0;
    if (shared_left_ == 0) {
      tile_ += block_count();
    } else if ((shared_left_ -= units) > 0) {
      ++tile_;
    } else {
      tile_ = block_index();
    }
  }

  /// Goes one unit on; true when that begins another tile.
  __device__ __forceinline__ bool advance() {
    if (segment() == 1) {
      next_segment();
      return true;
    }
    --units_left;
    ++column_panel;
    if (shared_left_ > 0) --shared_left_;
    return false;
  }

  /// Of the tiles that are shared, the one it stands at.
  __device__ __forceinline__ int shared_tile() const { return tile_ - first_shared(); }

  struct Place {
    int row_tile;
    int token_tile;
  };

  /// Where the tile lies. Tiles lie in groups of 8 token tiles, in which the weights of a row tile are used 8
  /// times before the next row tile begins: X of the group stays in L2.
  __device__ __forceinline__ Place place() const {
    constexpr int kGroupTiles = 8;
    const int token_tiles = (launch_.tokens + Config::kTileTokens - 1) / Config::kTileTokens;
    const int group = tile_ / (kGroupTiles * G::kRowTiles);
    const int in_group = tile_ - group * kGroupTiles * G::kRowTiles;
    const int width = min(kGroupTiles, token_tiles - group * kGroupTiles);
    const int row_tile = in_group / width;
    return {row_tile, group * kGroupTiles + in_group - row_tile * width};
  }

 private:
  __device__ __forceinline__ int first_shared() const { return launch_.whole_tiles * block_count(); }

  const LaunchArguments& launch_;
  int tile_;
  int shared_left_;  ///< units of the range
};

/// The barriers of the stages: `full` is completed by what arrives, `empty` by those who have used it.
template <class Config>
struct StageBarriers {
  using G = ManyTokensGeometry<Config>;

  Mbarrier* activations_full;
  Mbarrier* activations_empty;
  Mbarrier* weights_full;
  Mbarrier* weights_empty;

  __device__ __forceinline__ explicit StageBarriers(unsigned char* shared)
      : activations_full(reinterpret_cast<Mbarrier*>(shared + shared_layout_of<Config>().barriers_offset())),
        activations_empty(activations_full + Config::kActivationStages),
        weights_full(activations_empty + Config::kActivationStages),
        weights_empty(weights_full + Config::kWeightStages) {}

  // By one thread each, written out: every address is a constant then, and the barriers' unit takes one after
  // the other. In a loop, or with a lane for each, a barrier takes 70 cycles, and nothing can start before.

  __device__ __forceinline__ void initialize_activations() const {
#pragma unroll
    for (int stage = 0; stage < Config::kActivationStages; ++stage) {
      initialize_barrier(activations_full + stage, 1);
      initialize_barrier(activations_empty + stage, kWarpsOfUnit);
    }
    fence_barrier_initialization();
  }

  __device__ __forceinline__ void initialize_weights() const {
#pragma unroll
    for (int stage = 0; stage < Config::kWeightStages; ++stage) {
      initialize_barrier(weights_full + stage, 1);
      initialize_barrier(weights_empty + stage, kWarpsOfUnit * layout::kLanes);
    }
    fence_barrier_initialization();
  }

 private:
  static constexpr int kWarpsOfUnit = 4 * G::kRowGroups;  // that use a unit, and each of its stages
};

}  // namespace lutsmith::device
