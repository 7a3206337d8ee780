#pragma once

#include "templates/primitives/bulk_copy.cuh"
#include "templates/primitives/threads.cuh"
#include "templates/weights/ring.cuh"

// Weights through a ring of kStages units per warp in shared memory, filled by bulk copies: lane 0
// issues one for a whole unit, an mbarrier per stage counts its bytes.

namespace lutsmith::device {

template <class Config>
class WeightStream {
 public:
  using G = Geometry<Config>;
  using Unit = WeightUnit<Config>;
  using Stage = RingStage<Config>;

  static constexpr bool kInRegisters = false;
  static constexpr int kHeld = Config::kStages;  ///< units that a warp has or waits for

  static constexpr int kRingBytes = Config::kWarps * Config::kStages * Stage::kBytes;

  __device__ __forceinline__ WeightStream(unsigned char* shared, const unsigned char* weights,
                                          const Walk<Config>& first, int warp, int lane)
      : ring_(shared + warp * Config::kStages * Stage::kBytes),
        barriers_(reinterpret_cast<Mbarrier*>(shared + kRingBytes) + warp * Config::kStages),
        ahead_(weights, first, warp),
        paced_(paced(first)),
        lane_(lane) {}

  __device__ __forceinline__ void prime() {
    if (lane_ == 0) {
#pragma unroll 1
      for (int stage = 0; stage < Config::kStages; ++stage) initialize_barrier(barriers_ + stage, 1);
      fence_barrier_initialization();
    }
    warp_barrier();
    const int stages = paced_ ? kFirstStages : Config::kStages;
#pragma unroll 1
    for (int stage = 0; stage < stages; ++stage) copy(stage);
  }

  /// Where the ring holds all that the block has, the launch is so short that the one before it is likely to
  /// be waiting for its X now, and X would queue behind these copies. So most of them start when the first
  /// has come.
  __device__ __forceinline__ void continue_priming() {
    if (!paced_) return;
    wait_barrier_ahead(barriers_, 0);
#pragma unroll 1
    for (int stage = kFirstStages; stage < Config::kStages; ++stage) copy(stage);
  }

  __device__ __forceinline__ void begin_step(int) {}

  __device__ __forceinline__ Unit take(int) const {
    wait_barrier(barriers_ + stage_, parity_);
    Unit unit;
    Stage::read(unit, ring_ + stage_ * Stage::kBytes, lane_);
    return unit;
  }

  /// Refills the stage of this step, whether it had a unit or not. `sum` depends on the unit taken.
  __device__ __forceinline__ void release(int, float sum) {
    if (ahead_.at_end() || Stage::all_consumed(sum)) copy(stage_);
    if (++stage_ == Config::kStages) {
      stage_ = 0;
      parity_ ^= 1u;
    }
  }

 private:
  static constexpr int kFirstStages = 2;

  static __device__ __forceinline__ bool paced(const Walk<Config>& first) {
    if constexpr (Walk<Config>::kPacesPriming) {
      return first.steps_left > kFirstStages && first.steps_left <= Config::kStages;
    } else {
      return false;
    }
  }

  __device__ __forceinline__ void copy(int stage) {
    if (lane_ == 0 && !ahead_.at_end()) {
      Mbarrier* barrier = barriers_ + stage;
      if (ahead_.has_unit()) {
        unsigned char* to = ring_ + stage * Stage::kBytes;
        arrive_expecting(barrier, Stage::kBytes);
#pragma unroll
        for (int panel = 0; panel < Stage::kPanels; ++panel) {
          unsigned char* place = to + panel * Stage::kPanelBytes;
          copy_bulk(place, Stage::panel_of(ahead_, panel), Stage::kPanelBytes, barrier);
          if constexpr (Stage::kPlaneScales) {
            copy_bulk(to + Stage::kUnitBytes + panel * Stage::kPlaneBytes,
                      Stage::plane_scales_of(ahead_, panel), Stage::kPlaneBytes, barrier);
          }
        }
      } else {
        arrive_expecting(barrier, 0);  // a phase for every step, so that the parity counts steps
      }
    }
    ahead_.advance();
  }

  unsigned char* ring_;
  Mbarrier* barriers_;
  UnitWalk<Config> ahead_;
  bool paced_;
  int lane_;
  int stage_ = 0;
  unsigned int parity_ = 0;
};

}  // namespace lutsmith::device
