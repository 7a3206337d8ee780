#pragma once

#include "templates/bulk_copy.cuh"
#include "templates/weight_ring.cuh"

// Weights through a ring of kStages units per warp in shared memory, filled by bulk copies: lane 0
// issues one for a whole unit, an mbarrier per stage counts its bytes.

namespace lutsmith::device {

template <class Config>
class WeightStream {
 public:
  using G = Geometry<Config>;
  using Unit = WeightUnit<Config>;
  using Stage = RingStage<Config>;

  static constexpr int kSlots = 2;
  static constexpr int kRingBytes = Config::kWarps * Config::kStages * Stage::kBytes;

  __device__ __forceinline__ WeightStream(unsigned char* shared, const unsigned char* weights,
                                          const Cursor<Config>& first, int warp, int lane)
      : ring_(shared + warp * Config::kStages * Stage::kBytes),
        barriers_(reinterpret_cast<Mbarrier*>(shared + kRingBytes) + warp * Config::kStages),
        weights_(weights),
        ahead_(first),
        warp_(warp),
        lane_(lane) {}

  __device__ __forceinline__ void prime() {
    if (lane_ == 0) {
#pragma unroll
      for (int stage = 0; stage < Config::kStages; ++stage) initialize_barrier(barriers_ + stage);
      fence_barrier_initialization();
    }
    __syncwarp();
#pragma unroll
    for (int stage = 0; stage < Config::kStages; ++stage) copy(stage);
  }

  __device__ __forceinline__ const Unit& take(int) {
    wait_barrier(barriers_ + stage_, parity_);
    Stage::read(unit_, ring_ + stage_ * Stage::kBytes, lane_);
    return unit_;
  }

  /// Refills the stage of this step, whether it had a unit or not. `sum` depends on the unit taken.
  __device__ __forceinline__ void release(int, float sum) {
    if (Stage::all_consumed(sum)) copy(stage_);
    if (++stage_ == Config::kStages) {
      stage_ = 0;
      parity_ ^= 1u;
    }
  }

 private:
  __device__ __forceinline__ void copy(int stage) {
    Mbarrier* barrier = barriers_ + stage;
    if (lane_ == 0 && !ahead_.at_end() && !ahead_.has_unit(warp_)) {
      arrive_expecting(barrier, 0);  // a phase for every step, so that the parity counts steps
    } else if (lane_ == 0 && !ahead_.at_end()) {
      const int column_block = ahead_.column_block(warp_);
      unsigned char* to = ring_ + stage * Stage::kBytes;
      arrive_expecting(barrier, Stage::kBytes);
      copy_bulk(to, weights_ + G::unit_offset(ahead_.row_tile, column_block), Stage::kUnitBytes, barrier);
      if constexpr (Stage::kPlaneScales) {
        copy_bulk(to + Stage::kUnitBytes, Stage::plane_scales(weights_, ahead_.row_tile, column_block),
                  Stage::kPlaneBytes, barrier);
      }
    }
    ahead_.advance();
  }

  unsigned char* ring_;
  Mbarrier* barriers_;
  const unsigned char* weights_;
  Cursor<Config> ahead_;
  int warp_;
  int lane_;
  int stage_ = 0;
  unsigned int parity_ = 0;
  Unit unit_;
};

}  // namespace lutsmith::device
