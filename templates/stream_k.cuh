#pragma once

#include "templates/geometry.cuh"
#include "templates/memory.cuh"

// Stream-K: the steps of all tiles, one after another, are cut into contiguous partitions, one for each
// block. A tile that is cut has a part in several partitions:
//
//   steps      |  tile 0   |  tile 1   |  tile 2   |
//   partitions |    0   |    1    |    2   |   3   |
//
// Each part goes to a slot as fp32 sums. The block that arrives last at the tile adds the slots in the
// order of the partitions, so the result does not depend on who was last. Nobody waits.

namespace lutsmith::device {

template <class Config>
struct StreamK {
  static constexpr int kStepsPerTile = Geometry<Config>::kStepsPerTile;
  static constexpr int kSlotFloats = Config::kTileRows * Config::kTileTokens;

  /// First step of a partition; of the one after the last: the number of steps.
  static __device__ __forceinline__ int first_step(const LaunchArguments& launch, int partition) {
    const int grains = partition * launch.grains_per_partition + min(partition, launch.extra_grains);
    return grains * launch.steps_per_grain;
  }

  /// The partition a step belongs to.
  static __device__ __forceinline__ int owner(const LaunchArguments& launch, int step) {
    const int grain = step / launch.steps_per_grain;
    const int longer = launch.grains_per_partition + 1;  // the first extra_grains partitions
    const int in_longer = launch.extra_grains * longer;
    if (grain < in_longer) return grain / longer;
    return launch.extra_grains + (grain - in_longer) / launch.grains_per_partition;
  }

  /// Where partition `partition` puts its part of `tile`. It can have parts of two cut tiles: the one
  /// it starts in (slot 0) and another it ends in (slot 1).
  static __device__ __forceinline__ float* slot(const LaunchArguments& launch, int partition, int tile) {
    const int index = first_step(launch, partition) / kStepsPerTile == tile ? 0 : 1;
    return launch.partial_sums + (2ll * partition + index) * kSlotFloats;
  }

  /// Counts this block's part of the tile, written before by all its threads, and tells all of them
  /// whether it was the last. The last one resets the counter for the next launch.
  static __device__ __forceinline__ bool last_to_arrive(const LaunchArguments& launch, int first_partition,
                                                        int parts, int* flag) {
    fence_device();
    __syncthreads();
    if (threadIdx.x == 0) {
      unsigned int* counter = launch.arrivals + first_partition;
      const bool last = count_arrival(counter) == static_cast<unsigned int>(parts - 1);
      if (last) *counter = 0;
      *flag = last;
    }
    __syncthreads();
    fence_device();
    return *flag != 0;
  }

  /// Adds element `element` of all parts of a tile, in the order of the partitions.
  static __device__ __forceinline__ float add_parts(const LaunchArguments& launch, int tile,
                                                    int first_partition, int parts, int element) {
    float sum = load_partial_sum(slot(launch, first_partition, tile) + element);
#pragma unroll 1
    for (int part = 1; part < parts; ++part) {
      sum += load_partial_sum(slot(launch, first_partition + part, tile) + element);
    }
    return sum;
  }
};

}  // namespace lutsmith::device
