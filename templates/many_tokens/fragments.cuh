#pragma once

#include "templates/many_tokens/geometry.cuh"
#include "templates/primitives/pairs.cuh"
#include "templates/primitives/threads.cuh"
#include "templates/weights/ring.cuh"

// From the codes of a record to A registers whose k lies in natural order, as X does that the copy engine
// brings.
//
// The two words that lane t of a quad holds for 32 k are four 16-bit units, each two neighbouring k of rows g
// and g + 8: those of k = 8 t + 2 i, i = 0 .. 3. The product wants of lane t those of k = 8 i + 2 t: a 4 x 4
// transpose within the quad, in two exchanges of a word.
//
//              packed                 after lane ^ 2           after lane ^ 1
//   lane 0   00 01 02 03            00 01 | 20 21            00 10 | 20 30       (lane, i)
//   lane 1   10 11 12 13            10 11 | 30 31            01 11 | 21 31
//   lane 2   20 21 22 23            02 03 | 22 23            02 12 | 22 32
//   lane 3   30 31 32 33            12 13 | 32 33            03 13 | 23 33

namespace lutsmith::device {

/// The selectors of one lane.
class QuadTranspose {
 public:
  __device__ __forceinline__ explicit QuadTranspose(int lane) : high_pair_((lane & 2) != 0) {
    const bool odd = (lane & 1) != 0;
    constexpr unsigned int kLows = 0x5410, kHighs = 0x7632;                // of (own, received)
    constexpr unsigned int kLowsSwapped = 0x1054, kHighsSwapped = 0x3276;  // of (received, own)
    const unsigned int lows = high_pair_ ? kLowsSwapped : kLows;
    const unsigned int highs = high_pair_ ? kHighsSwapped : kHighs;
    keep_ = kept(odd ? highs : lows);
    send_ = kept(odd ? lows : highs);
    first_ = kept(odd ? kLowsSwapped : kLows);
    second_ = kept(odd ? kHighsSwapped : kHighs);
  }

  /// Of the two words of 32 k, those of the first and of the second 16 k.
  __device__ __forceinline__ void operator()(unsigned int word0, unsigned int word1, unsigned int& first,
                                             unsigned int& second) const {
    const unsigned int own = high_pair_ ? word1 : word0;
    const unsigned int received = exchange_lanes(high_pair_ ? word0 : word1, 2);
    const unsigned int kept_pair = select_bytes(own, received, keep_);
    const unsigned int received_pair = exchange_lanes(select_bytes(own, received, send_), 1);
    first = select_bytes(kept_pair, received_pair, first_);
    second = select_bytes(kept_pair, received_pair, second_);
  }

 private:
  bool high_pair_;
  unsigned int keep_, send_, first_, second_;
};

/// What a warp holds of one unit, its record, on the way to A registers: exchange(), look_up() and scale()
/// are the three steps, one behind another, so that a step's latency passes while those of others are issued.
template <class Config, class Engine>
class Fragments {
 public:
  using G = ManyTokensGeometry<Config>;
  using Batch = unsigned int[Config::kCommitSteps][4];
  /// The codes of two steps of 16 k, in natural order.
  using Pair = unsigned int[2];

  static constexpr int kPairs = G::kStepsPerUnit / 2;

  /// `record`: which of the unit's.
  __device__ __forceinline__ Fragments(const unsigned char* weight_stages, int record, int lane)
      : transpose_(lane),
        records_(weight_stages +
                 record / layout::kRecordsPerPanel * shared_layout_of<Config>().staged_panel_bytes() +
                 record % layout::kRecordsPerPanel * packed_layout_of<Config>().record_bytes()),
        scales_offset_(shared_layout_of<Config>().plane()
                           ? packed_layout_of<Config>().panel_bytes() -
                                 record % layout::kRecordsPerPanel *
                                     (packed_layout_of<Config>().record_bytes() -
                                      packed_layout_of<Config>().group_bytes())
                           : packed_layout_of<Config>().record_group_offset(0)),
        lane_(lane) {}

  /// Reads the codes and scales of a stage.
  __device__ __forceinline__ void read(int stage) {
    const unsigned char* record = records_ + stage * shared_layout_of<Config>().weight_stage_bytes();
    unit_.template read<StagedWeights>(record, record + scales_offset_, lane_);
  }

  /// The next unit will be read before the last steps of this one have their scales.
  __device__ __forceinline__ void keep_scales() {
    if constexpr (!G::kPerChannel) {
#pragma unroll
      for (int i = 0; i < kScaleWords; ++i) {
        kept_scales_[i] = unit_.scales[0][i];
        if constexpr (Config::kOffsets) kept_offsets_[i] = unit_.offsets[0][i];
      }
    }
  }

  /// The codes of steps 2 * kPair and 2 * kPair + 1.
  template <int kPair>
  __device__ __forceinline__ void exchange(Pair& natural) const {
    transpose_(unit_.nibbles(0, 2 * kPair), unit_.nibbles(0, 2 * kPair + 1), natural[0], natural[1]);
  }

  /// Their table values, of one step.
  __device__ __forceinline__ void look_up(unsigned int (&a)[4], unsigned int natural,
                                          const Engine& engine) const {
    engine.look_up(a, Codes{natural}, 0, 0);
  }

  /// Those of a step, times their scale, plus their offset where the format has them: one more rounding to 16
  /// bits. `kept`: those that were kept.
  template <int kStep, bool kept>
  __device__ __forceinline__ void scale(unsigned int (&a)[4], const unsigned int (&values)[4]) const {
    if constexpr (G::kPerChannel) {
#pragma unroll
      for (int i = 0; i < 4; ++i) a[i] = values[i];
    } else {
      constexpr int kGroup = kStep / (G::kStepsPerUnit / kScaleWords);
      const unsigned int scales = kept ? kept_scales_[kGroup] : unit_.scales[0][kGroup];
      const unsigned int low = select_bytes(scales, scales, 0x1010);  // of row g, twice
      const unsigned int high = select_bytes(scales, scales, 0x3232);
      if constexpr (Config::kOffsets) {
        const unsigned int offsets = kept ? kept_offsets_[kGroup] : unit_.offsets[0][kGroup];
        const unsigned int low_offset = select_bytes(offsets, offsets, 0x1010);
        const unsigned int high_offset = select_bytes(offsets, offsets, 0x3232);
        a[0] = multiply_add_pairs<Config::kElement>(values[0], low, low_offset);
        a[1] = multiply_add_pairs<Config::kElement>(values[1], high, high_offset);
        a[2] = multiply_add_pairs<Config::kElement>(values[2], low, low_offset);
        a[3] = multiply_add_pairs<Config::kElement>(values[3], high, high_offset);
      } else {
        a[0] = multiply_pairs<Config::kElement>(values[0], low);
        a[1] = multiply_pairs<Config::kElement>(values[1], high);
        a[2] = multiply_pairs<Config::kElement>(values[2], low);
        a[3] = multiply_pairs<Config::kElement>(values[3], high);
      }
    }
  }

 private:
  using Unit = WeightUnit<OneRecord<Config>>;
  static constexpr int kScaleWords = Unit::kScaleWords > 0 ? Unit::kScaleWords : 1;

  /// A step's codes as a look-up engine takes them.
  struct Codes {
    unsigned int word;
    __device__ __forceinline__ unsigned int nibbles(int, int) const { return word; }
  };

  QuadTranspose transpose_;
  const unsigned char* records_;
  int scales_offset_;
  int lane_;
  Unit unit_;
  unsigned int kept_scales_[kScaleWords];
  unsigned int kept_offsets_[Config::kOffsets ? kScaleWords : 1];
};

}  // namespace lutsmith::device
