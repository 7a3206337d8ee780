#pragma once

#include "templates/primitives/async_copy.cuh"
#include "templates/primitives/threads.cuh"
#include "templates/weights/ring.cuh"

// Weights through a ring of kStages units per warp in shared memory, filled by cp.async: every lane
// copies 16 bytes at a time.

namespace lutsmith::device {

template <class Config>
class WeightStream {
 public:
  using G = Geometry<Config>;
  using Unit = WeightUnit<Config>;
  using Stage = RingStage<Config>;

  static constexpr bool kInRegisters = false;
  static constexpr int kHeld = Config::kStages;  ///< units that a warp has or waits for

  __device__ __forceinline__ WeightStream(unsigned char* shared, const unsigned char* weights,
                                          const Walk<Config>& first, int warp, int lane)
      : ring_(shared + warp * Config::kStages * Stage::kBytes), ahead_(weights, first, warp), lane_(lane) {}

  __device__ __forceinline__ void prime() {
#pragma unroll 1
    for (int stage = 0; stage < Config::kStages; ++stage) copy(stage);
  }

  __device__ __forceinline__ void continue_priming() {}

  __device__ __forceinline__ void begin_step(int) {}

  __device__ __forceinline__ Unit take(int) const {
    wait_copies<Config::kStages - 1>();
    warp_barrier();  // a lane reads what other lanes copied
    Unit unit;
    Stage::read(unit, ring_ + stage_ * Stage::kBytes, lane_);
    return unit;
  }

  /// Refills the stage of this step, whether it had a unit or not. `sum` depends on the unit taken.
  __device__ __forceinline__ void release(int, float sum) {
    if (ahead_.at_end() || Stage::all_consumed(sum)) copy(stage_);
    stage_ = stage_ + 1 == Config::kStages ? 0 : stage_ + 1;
  }

 private:
  __device__ __forceinline__ void copy(int stage) {
    if (ahead_.has_unit()) {
      unsigned char* to = ring_ + stage * Stage::kBytes;
#pragma unroll
      for (int panel = 0; panel < Stage::kPanels; ++panel) {
        copy_bytes<Stage::kPanelBytes>(to + panel * Stage::kPanelBytes, Stage::panel_of(ahead_, panel));
        if constexpr (Stage::kPlaneScales) {
          copy_bytes<Stage::kPlaneBytes>(to + Stage::kUnitBytes + panel * Stage::kPlaneBytes,
                                         Stage::plane_scales_of(ahead_, panel));
        }
      }
    }
    commit_copies();  // for every step, so that the count of commits is the count of steps
    ahead_.advance();
  }

  template <int bytes>
  __device__ __forceinline__ void copy_bytes(unsigned char* to, const unsigned char* from) {
    constexpr int kPass = layout::kLanes * 16;
#pragma unroll
    for (int first = 0; first < bytes; first += kPass) {
      const int offset = first + lane_ * 16;
      if (first + kPass <= bytes || offset < bytes) copy_async_16(to + offset, from + offset);
    }
  }

  unsigned char* ring_;
  UnitWalk<Config> ahead_;
  int lane_;
  int stage_ = 0;
};

}  // namespace lutsmith::device
