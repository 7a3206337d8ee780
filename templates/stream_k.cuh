#pragma once

#include "templates/abi/kernel_arguments.h"
#include "templates/primitives/global_memory.cuh"
#include "templates/primitives/shared_memory.cuh"
#include "templates/primitives/threads.cuh"

// Stream-K: the steps of all tiles, one after another, are cut into contiguous partitions, one for each
// block. A tile that is cut has a part in several partitions:
//
//   steps      |  tile 0   |  tile 1   |  tile 2   |
//   partitions |    0   |    1    |    2   |   3   |
//
// Each part goes to a slot as fp32 sums. The block that arrives last at the tile adds the slots in the
// order of the partitions, so the result does not depend on who was last. Nobody waits.
//
// Of a kernel family it needs its geometry G with three constants,
//
//   G::kStepsPerTile   steps of one tile: how fine a tile can be cut
//   G::kEqualParts     whether the partitions that have a grain more are spread evenly instead of being the
//                      first, so that a number of them for each tile cuts it into equal parts
//   G::kTileElements   elements of one tile: a slot has as many floats, in an order that is the family's own
//
// LaunchArguments filled by the host's partition(), and that all threads of a block call last_to_arrive().

namespace lutsmith::device {

template <class G>
struct StreamK {
  static constexpr int kStepsPerTile = G::kStepsPerTile;
  static constexpr int kSlotFloats = G::kTileElements;

  /// First step of a partition; of the one after the last: the number of steps.
  static __device__ __forceinline__ int first_step(const LaunchArguments& launch, int partition) {
    int extra = min(partition, launch.extra_grains);
    // Zero for many a launch, which spares it the division.
    if (G::kEqualParts && extra > 0) {
      extra = static_cast<unsigned int>(partition * launch.extra_grains) / launch.sharing;
    }
    const int grains = partition * launch.grains_per_partition + extra;
    return grains * launch.steps_per_grain;
  }

  /// The parts of a cut tile. A partition has a slot for the tile it starts in, and another for the tile
  /// it ends in; only the first part of a tile can stand in the latter.
  struct Parts {
    int first;  ///< partition of the first part
    int count;
    const float* first_slot;
    const float* next_slots;  ///< of the other parts, two slots from one to the next
    float* own;               ///< slot of the part of this block
    int counter;              ///< that counts the parts that have come
  };

  static __device__ __forceinline__ Parts parts_of(const LaunchArguments& launch, int tile, int partition) {
    const int tile_begin = tile * kStepsPerTile;
    Parts parts;
    // Found by walking: they are few.
    parts.first = partition;
#pragma unroll 1
    while (first_step(launch, parts.first) > tile_begin) --parts.first;
    int next = partition + 1;
#pragma unroll 1
    while (first_step(launch, next) < tile_begin + kStepsPerTile) ++next;
    parts.count = next - parts.first;
    parts.counter = parts.first;
    float* slots = launch.partial_sums + 2ll * parts.first * kSlotFloats;
    const int offset = first_step(launch, parts.first) < tile_begin ? kSlotFloats : 0;
    parts.first_slot = slots + offset;
    parts.next_slots = slots + 2 * kSlotFloats;
    parts.own = slots + (partition == parts.first ? offset : 2 * (partition - parts.first) * kSlotFloats);
    return parts;
  }

  /// Counts this block's part of the tile, written before by all its threads, and tells all of them
  /// whether it was the last. The last one resets the counter for the next launch.
  static __device__ __forceinline__ bool last_to_arrive(const LaunchArguments& launch, const Parts& parts,
                                                        int* flag) {
    fence_device();
    block_barrier();
    if (thread_index() == 0) count_part(launch, parts, flag);
    block_barrier();
    fence_device();
    return load_shared(flag) != 0;
  }

  /// The same for a part of the block's threads, of which one is the `leader`, and who wait for each other by
  /// calling meet(). The barrier hands the leader their writes, its count releases them.
  template <class Meet>
  static __device__ __forceinline__ bool last_to_arrive(const LaunchArguments& launch, const Parts& parts,
                                                        int* flag, bool leader, Meet meet) {
    meet();
    if (leader) count_part(launch, parts, flag);
    meet();
    return load_shared(flag) != 0;
  }

  /// The slot of a part, counted from the first.
  static __device__ __forceinline__ const float* slot(const Parts& parts, int part) {
    return part == 0 ? parts.first_slot : parts.next_slots + 2ll * (part - 1) * kSlotFloats;
  }

  /// Adds one element of all parts, in the order of the partitions.
  static __device__ __forceinline__ float add_parts(const Parts& parts, int element) {
    float sum = load_partial_sum(parts.first_slot + element);
    const float* next = parts.next_slots + element;
#pragma unroll 1
    for (int part = 1; part < parts.count; ++part) {
      sum += load_partial_sum(next);
      next += 2 * kSlotFloats;
    }
    return sum;
  }

 private:
  static __device__ __forceinline__ void count_part(const LaunchArguments& launch, const Parts& parts,
                                                    int* flag) {
    unsigned int* counter = launch.arrivals + parts.counter;
    const bool last = count_arrival(counter) == static_cast<unsigned int>(parts.count - 1);
    if (last) reset_arrivals(counter);
    store_shared(flag, static_cast<int>(last));
  }
};

}  // namespace lutsmith::device
