#pragma once

#include "templates/primitives/global_memory.cuh"
#include "templates/weights/contract.cuh"

// Weights by 16-byte loads straight into registers, two units ahead of use. No shared memory is spent
// and none of its bandwidth; the registers limit how far ahead. With 3 stages a slot is refilled before
// its unit is used, from a copy, so that two units are always under way; with 2 after. Registers do not
// change under an instruction that still reads them, so no refill waits for the use.

namespace lutsmith::device {

template <class Config>
class WeightStream {
 public:
  using G = Geometry<Config>;
  using Unit = WeightUnit<Config>;

  static constexpr int kSlots = 2;

  __device__ __forceinline__ WeightStream(unsigned char*, const unsigned char* weights,
                                          const Walk<Config>& first, int warp, int lane)
      : ahead_(weights, first, warp), lane_(lane) {}

  __device__ __forceinline__ void prime() {
#pragma unroll
    for (int slot = 0; slot < kSlots; ++slot) load(slot);
  }

  __device__ __forceinline__ void begin_step(int slot) {
    if constexpr (kRefillsEarly) {
      in_use_ = units_[slot];
      load(slot);
    }
  }

  __device__ __forceinline__ const Unit& take(int slot) const {
    return kRefillsEarly ? in_use_ : units_[slot];
  }

  __device__ __forceinline__ void release(int slot, float) {
    if constexpr (!kRefillsEarly) load(slot);
  }

 private:
  static constexpr bool kRefillsEarly = Config::kStages == 3;

  /// Fills `slot` with the unit two steps on.
  __device__ __forceinline__ void load(int slot) {
    if (ahead_.has_unit()) units_[slot].template read<StreamedWeights>(ahead_.unit(), first_scales(), lane_);
    ahead_.advance();
  }

  __device__ __forceinline__ const unsigned char* first_scales() const {
    if constexpr (G::kScalesInRecord || G::kPerChannel) {
      return ahead_.unit() + packed_layout_of<Config>().record_group_offset(0);
    } else {
      return ahead_.plane_scales();
    }
  }

  UnitWalk<Config> ahead_;
  int lane_;
  Unit units_[kSlots];
  Unit in_use_;
};

}  // namespace lutsmith::device
