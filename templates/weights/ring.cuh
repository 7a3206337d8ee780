#pragma once

#include "templates/few_tokens/shared_memory.h"
#include "templates/primitives/arithmetic.cuh"
#include "templates/primitives/shared_memory.cuh"
#include "templates/primitives/threads.cuh"
#include "templates/weights/contract.cuh"

// What the two shared-memory rings have in common: the stage, and reading a unit out of it.
//
//   stage = | unit: records as they are packed | scales, where they stand in the plane |
//
// Of two panels, in both places those of the first and then those of the second.
//
// Every warp has a ring of its own, so no barrier but the warp's own stands in the main loop.

namespace lutsmith::device {

/// Reads of packed weights that were copied to shared memory.
struct StagedWeights {
  static __device__ __forceinline__ uint4 load_16(const unsigned char* address) {
    return load_shared(reinterpret_cast<const uint4*>(address));
  }

  static __device__ __forceinline__ uint2 load_8(const unsigned char* address) {
    return load_shared(reinterpret_cast<const uint2*>(address));
  }

  static __device__ __forceinline__ unsigned int load_scales(const unsigned char* address) {
    return load_shared(reinterpret_cast<const unsigned int*>(address));
  }
};

template <class Config>
struct RingStage {
  using G = Geometry<Config>;
  using Unit = WeightUnit<Config>;

  static constexpr int kUnitBytes = G::kRecords * G::kRecordBytes;
  static constexpr bool kPlaneScales = !G::kScalesInRecord && !G::kPerChannel;
  static constexpr int kBytes = shared_memory::stage_bytes(packed_layout_of<Config>(), Config::kTileRows);
  /// That a unit lies in; the parts that each has of a stage.
  static constexpr int kPanels = G::kRecords / Unit::kPanelRecords;
  static constexpr int kPanelBytes = kUnitBytes / kPanels;
  static constexpr int kPlaneBytes = (kBytes - kUnitBytes) / kPanels;
  static_assert(kPanelBytes % 16 == 0 && kPlaneBytes % 16 == 0, "copies move multiples of 16 bytes");

  static __device__ __forceinline__ void read(Unit& unit, const unsigned char* stage, int lane) {
    constexpr int kScales = kPlaneScales ? kUnitBytes : packed_layout_of<Config>().record_group_offset(0);
    const unsigned char* scales = stage + kScales;
    unit.template read<StagedWeights>(stage, scales, lane);
    if constexpr (kPanels == 2) {
      constexpr int kNextScales = kPlaneScales ? kPlaneBytes : kPanelBytes;
      unit.template read<StagedWeights, 1>(stage + kPanelBytes, scales + kNextScales, lane);
    }
  }

  /// Where a panel of a unit lies in global memory, and its scales in the plane.
  template <class Walk>
  static __device__ __forceinline__ const unsigned char* panel_of(const Walk& at, int panel) {
    if constexpr (kPanels == 1) {
      return at.unit();
    } else {
      return panel == 0 ? at.unit() : at.unit() + at.to_second_panel();
    }
  }
  template <class Walk>
  static __device__ __forceinline__ const unsigned char* plane_scales_of(const Walk& at, int panel) {
    if constexpr (kPanels == 1) {
      return at.plane_scales();
    } else {
      return panel == 0 ? at.plane_scales() : at.plane_scales() + at.to_second_plane_scales();
    }
  }

  /// Returns when every lane has the values that `sum` was computed from. A stage is refilled only after
  /// its values were consumed: that its loads were issued is not enough, they may still be under way.
  /// The vote depends on the sum, so it cannot go ahead of the values. Always true: no sum has that
  /// payload (arithmetic makes 0x7fffffff its only NaN), which the compiler does not know.
  static __device__ __forceinline__ bool all_consumed(float sum) {
    const bool all = all_lanes(bits_of(sum) != 0x7fedcba9u);
    warp_barrier();  // orders the reads before the copies that follow; a vote alone does not
    return all;
  }
};

}  // namespace lutsmith::device
