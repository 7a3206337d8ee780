#pragma once

#include "templates/primitives/global_memory.cuh"
#include "templates/weights/contract.cuh"

// Weights by 16-byte loads straight into registers, two units ahead of use. No shared memory is spent
// and none of its bandwidth; the registers limit how far ahead. With 3 stages a unit is refilled before
// it is used, from a copy, so that two are always under way; with 2 after. Registers do not
// change under an instruction that still reads them, so no refill waits for the use.

namespace lutsmith::device {

template <class Config>
class WeightStream {
 public:
  using G = Geometry<Config>;
  using Unit = WeightUnit<Config>;

  static constexpr bool kInRegisters = true;
  static constexpr int kHeld = Config::kStages;  ///< units that a warp has or waits for

  static constexpr int kUnits = 2;

  __device__ __forceinline__ WeightStream(unsigned char*, const unsigned char* weights,
                                          const Walk<Config>& first, int warp, int lane)
      : ahead_(weights, first, warp), lane_(lane) {}

  __device__ __forceinline__ void prime() {
#pragma unroll
    for (int parity = 0; parity < kUnits; ++parity) load(parity);
  }

  __device__ __forceinline__ void continue_priming() {}

  __device__ __forceinline__ void begin_step(int parity) {
    if constexpr (kRefillsEarly) {
      in_use_ = units_[parity];
      load(parity);
    }
  }

  __device__ __forceinline__ const Unit& take(int parity) const {
    return kRefillsEarly ? in_use_ : units_[parity];
  }

  __device__ __forceinline__ void release(int parity, float) {
    if constexpr (!kRefillsEarly) load(parity);
  }

 private:
  static constexpr bool kRefillsEarly = Config::kStages == 3;
  /// Or there are none to be read; else they stand in the plane.
  static constexpr bool kScalesBesideRecords = G::kScalesInRecord || G::kPerChannel;

  /// Fills units_[parity] with the unit two steps on.
  __device__ __forceinline__ void load(int parity) {
    if (ahead_.has_unit()) {
      units_[parity].template read<StreamedWeights>(ahead_.unit(), first_scales(), lane_);
      if constexpr (G::kRecords > Unit::kPanelRecords) {
        const long long to_scales =
            kScalesBesideRecords ? ahead_.to_second_panel() : ahead_.to_second_plane_scales();
        units_[parity].template read<StreamedWeights, 1>(ahead_.unit() + ahead_.to_second_panel(),
                                                         first_scales() + to_scales, lane_);
      }
    }
    ahead_.advance();
  }

  __device__ __forceinline__ const unsigned char* first_scales() const {
    if constexpr (kScalesBesideRecords) {
      return ahead_.unit() + packed_layout_of<Config>().record_group_offset(0);
    } else {
      return ahead_.plane_scales();
    }
  }

  UnitWalk<Config> ahead_;
  int lane_;
  Unit units_[kUnits];
  Unit in_use_;
};

}  // namespace lutsmith::device
