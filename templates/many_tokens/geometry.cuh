#pragma once

#include "templates/abi/kernel_arguments.h"
#include "templates/look_up/look_up_bytes.h"
#include "templates/many_tokens/shared_memory.h"
#include "templates/primitives/bulk_copy.cuh"
#include "templates/primitives/cluster.cuh"
#include "templates/primitives/threads.cuh"
#include "templates/primitives/warpgroups.cuh"
#include "templates/stream_k.cuh"
#include "templates/wave_walk.cuh"
#include "templates/weights/unit.cuh"

// How a kernel's constants cut the product into tiles and units.
//
//             k: 0      128     256  ...                      K
//                +-------+-------+-------+-------+-------+----
//   tile_rows x  | group0| group1| group0| group1|  ...             a row tile: all of K
//                +-------+-------+-------+-------+-------+----
//
// A tile is tile_rows output channels by tile_tokens tokens, a unit 128 along K of it: the step of Stream-K.
// Every 64 rows have a warpgroup; with k_groups = 2 they have two, which take the units in turn. With
// cluster_blocks = 2 a unit is twice as long, and each of the two blocks of a cluster has its half.

namespace lutsmith::device {

/// One record of 16 rows, which a warp holds of a unit, as a unit of its own.
template <class Config>
struct OneRecord : Config {
  static constexpr int kTileRows = layout::kRecordRows;
  static constexpr int kWarps = 1;
};

template <class Config>
LUTSMITH_HOST_DEVICE constexpr many_tokens::SharedMemory shared_layout_of() {
  return {packed_layout_of<Config>(), look_up_bytes(packed_layout_of<Config>(), pair_table::kEntryStride),
          Config::kTileRows,          Config::kTileTokens,
          Config::kKGroups,           Config::kClusterBlocks,
          Config::kActivationStages,  Config::kWeightStages};
}

template <class Config>
struct ManyTokensGeometry {
  /// Scales are applied to the finished sums.
  static constexpr bool kPerChannel = packed_layout_of<Config>().scales_of_sums();

  static constexpr int kRowGroups = Config::kTileRows / many_tokens::kWarpgroupRows;
  static constexpr int kWarpgroups = kRowGroups * Config::kKGroups;
  static constexpr int kBlocks = Config::kClusterBlocks;
  static constexpr int kConsumers = kWarpgroups * 128;
  static constexpr int kThreads = kConsumers + 128;  // the first warpgroup brings X and weights
  static constexpr int kRowThreads = kRowGroups * 128;

  static constexpr int kPanels = Config::kTileRows / layout::kPanelRows;  // of a unit
  static constexpr int kTileTokens = Config::kTileTokens;
  static constexpr int kColumnPanels = static_cast<int>(packed_layout_of<Config>().column_panels());
  static constexpr int kRowPanels = static_cast<int>(packed_layout_of<Config>().row_panels());
  static constexpr int kRowTiles = (Config::kN + Config::kTileRows - 1) / Config::kTileRows;
  static constexpr bool kWholeRows = Config::kN % Config::kTileRows == 0;
  static constexpr bool kWholePanels = kRowPanels % kPanels == 0;
  static constexpr bool kWholeUnits = kColumnPanels % kBlocks == 0;

  static constexpr int kOctets = Config::kTileTokens / 8;
  /// Octets of tokens that each group along K adds up.
  static constexpr int kOwnOctets = kOctets / Config::kKGroups;
  static constexpr int kSums = Config::kTileTokens / 2;  // of a thread

  static constexpr int kStepsPerUnit = layout::kMmaPerRecord;  // products along K
  static constexpr int kStepsPerStage = many_tokens::kStageColumns / 16;
  static constexpr int kBatches = kStepsPerUnit / Config::kCommitSteps;

  // For Stream-K.
  static constexpr int kStepsPerTile = (kColumnPanels + kBlocks - 1) / kBlocks;
  static constexpr bool kEqualParts = true;
  static constexpr int kTileElements = Config::kTileRows * Config::kTileTokens;

  static_assert(kOwnOctets % 2 == 0, "a store of the output takes two octets");
  static_assert(Config::kWeightStages % Config::kKGroups == 0 &&
                    Config::kActivationStages % (many_tokens::kStagesPerUnit * Config::kKGroups) == 0,
                "a stage belongs to one group along K: the parity of its barriers counts that group's units");
};

/// A position in the units of this block.
template <class Config>
using TileWalk = WaveWalk<ManyTokensGeometry<Config>>;

/// Where a block's part of a unit lies along K, in panels. Behind the last panel, where there is an odd
/// number of them, X is zeros.
template <class Config>
__device__ __forceinline__ int panel_of_unit(int unit) {
  if constexpr (Config::kClusterBlocks == 1) {
    return unit;
  } else {
    return unit * Config::kClusterBlocks + cluster_rank();
  }
}

/// The barriers of the exchange between the blocks of a cluster.
template <class Config>
struct ExchangeBarriers {
  using G = ManyTokensGeometry<Config>;

  Mbarrier* free;  ///< the other block's passage can be written to
  Mbarrier* come;  ///< its sums are in the own passage

  __device__ __forceinline__ explicit ExchangeBarriers(unsigned char* shared)
      : free(reinterpret_cast<Mbarrier*>(shared + shared_layout_of<Config>().exchange_barriers_offset())),
        come(free + 1) {}

  /// By one thread.
  __device__ __forceinline__ void initialize() const {
    initialize_barrier(free, 1);
    initialize_barrier(come, G::kConsumers / layout::kLanes);
    fence_barrier_initialization();
  }
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
