#pragma once

#include "templates/geometry.cuh"

// What a lane holds of one unit, and how its bit slices join to codes.

namespace lutsmith::device {

template <class Config>
struct WeightUnit {
  using G = Geometry<Config>;
  static constexpr int kWords = 2 * Config::kBits;  // 32-bit words of codes in a record, per lane
  static constexpr int kScaleWords = G::kUnitGroups;

  unsigned int codes[G::kRecords][kWords];
  /// Scales of rows g (low half) and g + 8 (high half).
  unsigned int scales[G::kRecords][kScaleWords > 0 ? kScaleWords : 1];

  /// Calls load(words, byte offset in the unit, number of words) for each vector of codes of a lane.
  template <class Load>
  __device__ __forceinline__ void for_each_vector(int lane, Load load) {
    constexpr layout::Slices kSlices = layout::slices(Config::kBits);
#pragma unroll
    for (int record = 0; record < G::kRecords; ++record) {
      int word = 0;
      int offset = record * G::kRecordBytes;
#pragma unroll
      for (int slice = 0; slice < kSlices.count; ++slice) {
        const int slice_words = 2 * kSlices.bits[slice];
        const int vector_words = slice_words < 4 ? slice_words : 4;
#pragma unroll
        for (int first = 0; first < slice_words; first += vector_words) {
          load(&codes[record][word + first], offset + (first * layout::kLanes + lane * vector_words) * 4,
               vector_words);
        }
        word += slice_words;
        offset += layout::slice_bytes(kSlices.bits[slice]);
      }
    }
  }

  /// Calls load(word, record, group) for each word of scales.
  template <class Load>
  __device__ __forceinline__ void for_each_scale(Load load) {
#pragma unroll
    for (int record = 0; record < G::kRecords; ++record) {
#pragma unroll
      for (int group = 0; group < kScaleWords; ++group) load(scales[record][group], record, group);
    }
  }

  /// The codes of one mma, one in each nibble: byte a is the pair index of A register a.
  __device__ __forceinline__ unsigned int nibbles(int record, int mma) const {
    constexpr layout::Slices kSlices = layout::slices(Config::kBits);
    unsigned int joined = 0;
    int first_word = 0;
#pragma unroll
    for (int slice = 0; slice < kSlices.count; ++slice) {
      const int bits = kSlices.bits[slice];
      const int mma_per_word = 4 / bits;
      const unsigned int word = codes[record][first_word + mma / mma_per_word];
      // From where the slice has these bits to where the code wants them.
      const int shift = kSlices.shift[slice] - mma % mma_per_word * bits;
      const unsigned int mask = (0x11111111u * ((1u << bits) - 1u)) << kSlices.shift[slice];
      const unsigned int moved = shift > 0 ? word << shift : word >> -shift;
      joined |= Config::kBits == 4 ? moved : moved & mask;
      first_word += 2 * bits;
    }
    return joined;
  }
};

}  // namespace lutsmith::device
