#pragma once

#include "templates/memory.cuh"
#include "templates/weight_unit.cuh"

// Weights by 16-byte loads straight into registers, kStages units ahead of use. No shared memory is
// spent and none of its bandwidth; the registers limit how far ahead.

namespace lutsmith::device {

template <class Config>
class WeightStream {
 public:
  using G = Geometry<Config>;
  using Unit = WeightUnit<Config>;

  /// The main loop unrolls by this, so that slots are registers.
  static constexpr int kSlots = Config::kStages;

  __device__ __forceinline__ WeightStream(unsigned char*, const unsigned char* weights,
                                          const Cursor<Config>& first, int warp, int lane)
      : weights_(weights), ahead_(first), warp_(warp), lane_(lane) {}

  /// Starts the first kStages loads. Touches nothing but weights.
  __device__ __forceinline__ void prime() {
#pragma unroll
    for (int slot = 0; slot < kSlots; ++slot) load(slot);
  }

  /// The unit of the step that `slot` holds; valid when the cursor of that step has one.
  __device__ __forceinline__ const Unit& take(int slot) { return units_[slot]; }

  /// Refills `slot` with the unit kStages steps on.
  __device__ __forceinline__ void release(int slot, float) { load(slot); }

 private:
  __device__ __forceinline__ void load(int slot) {
    if (ahead_.has_unit(warp_)) {
      const int column_block = ahead_.column_block(warp_);
      const unsigned char* unit = weights_ + G::unit_offset(ahead_.row_tile, column_block);
      units_[slot].for_each_vector(lane_, [&](unsigned int* words, int offset, int count) {
        if (count == 4) {
          const uint4 vector = load_weights_16(unit + offset);
          words[0] = vector.x, words[1] = vector.y, words[2] = vector.z, words[3] = vector.w;
        } else {
          const uint2 vector = load_weights_8(unit + offset);
          words[0] = vector.x, words[1] = vector.y;
        }
      });
      units_[slot].for_each_scale([&](unsigned int& word, int record, int group) {
        word = load_scales_4(scales(unit, column_block, record, group) + lane_ / 4 * 4);
      });
    }
    ahead_.advance();
  }

  __device__ __forceinline__ const unsigned char* scales(const unsigned char* unit, int column_block,
                                                         int record, int group) const {
    if constexpr (G::kScalesInRecord) {
      return unit + record * G::kRecordBytes + layout::code_bytes(Config::kBits) +
             group * layout::kGroupScaleBytes;
    } else {
      return weights_ + G::plane_scales_offset(ahead_.row_tile, G::plane_group(column_block)) +
             record * layout::kGroupScaleBytes;
    }
  }

  const unsigned char* weights_;
  Cursor<Config> ahead_;
  int warp_;
  int lane_;
  Unit units_[kSlots];
};

}  // namespace lutsmith::device
