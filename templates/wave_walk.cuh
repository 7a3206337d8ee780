#pragma once

#include "templates/abi/kernel_arguments.h"
#include "templates/primitives/threads.cuh"
#include "templates/primitives/warpgroups.cuh"
#include "templates/stream_k.cuh"

// The walk of a block over its units of large tiles: parts of the tiles that are shared, by Stream-K, then
// whole tiles, so that blocks which run at the same time have neighbouring tiles.
//
// Of a kernel family it needs its geometry G with, beside what StreamK takes,
//
//   G::kTileTokens     tokens of a tile
//   G::kRowTiles       tiles that cover the rows
//   G::kBlocks         blocks of a cluster, which share a partition

namespace lutsmith::device {

/// A position in the units of this block: its range of the tiles that are shared, then its whole tiles. Keeps
/// only what cannot be found again from the launch: registers are scarce where it is used.
template <class G>
class WaveWalk {
 public:
  using K = StreamK<G>;

  int units_left;  ///< of the block, the one it stands at included
  int unit;        ///< of its tile: a step of Stream-K

  /// At the block's first unit.
  __device__ __forceinline__ explicit WaveWalk(const LaunchArguments& launch)
      : unit(0), launch_(launch), tile_(partition()), shared_left_(0) {
    if (partition() < launch.sharing) {
      const int first = K::first_step(launch, partition());
      shared_left_ = K::first_step(launch, partition() + 1) - first;
      if (shared_left_ > 0) {
        tile_ = first_shared() + first / G::kStepsPerTile;
        unit = first % G::kStepsPerTile;
      }
    }
    units_left = shared_left_ + launch.whole_tiles * G::kStepsPerTile;
  }

  /// Units from here to the end of the tile or of the range.
  __device__ __forceinline__ int segment() const {
    const int left = G::kStepsPerTile - unit;
    return shared_left_ > 0 ? min(left, shared_left_) : left;
  }

  __device__ __forceinline__ void next_segment() {
    const int units = segment();
    units_left -= units;
    unit = 0;
    if (shared_left_ == 0) {
      tile_ += partitions();
    } else if ((shared_left_ -= units) > 0) {
      ++tile_;
    } else {
      tile_ = partition();
    }
  }

  /// Goes one unit on; true when that begins another tile.
  __device__ __forceinline__ bool advance() {
    if (segment() == 1) {
      next_segment();
      return true;
    }
    --units_left;
    ++unit;
    if (shared_left_ > 0) --shared_left_;
    return false;
  }

  /// Goes so many units on if that ends in the same segment; else stays where it is.
  __device__ __forceinline__ bool advance_in_segment(int units) {
    if (segment() <= units) return false;
    units_left -= units;
    unit += units;
    if (shared_left_ > 0) shared_left_ -= units;
    return true;
  }

  /// Of this block, and how many the launch has.
  static __device__ __forceinline__ int partition() { return block_index() / G::kBlocks; }
  static __device__ __forceinline__ int partitions() { return block_count() / G::kBlocks; }

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
    const int token_tiles = (launch_.tokens + G::kTileTokens - 1) / G::kTileTokens;
    const int group = tile_ / (kGroupTiles * G::kRowTiles);
    const int in_group = tile_ - group * kGroupTiles * G::kRowTiles;
    const int width = min(kGroupTiles, token_tiles - group * kGroupTiles);
    const int row_tile = in_group / width;
    return {row_tile, group * kGroupTiles + in_group - row_tile * width};
  }

 private:
  __device__ __forceinline__ int first_shared() const { return launch_.whole_tiles * partitions(); }

  const LaunchArguments& launch_;
  int tile_;
  int shared_left_;  ///< units of the range
};

}  // namespace lutsmith::device
