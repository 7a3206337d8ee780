#pragma once

#include "templates/few_tokens/geometry.cuh"

// What a lane holds of one unit, and how its bit slices join to codes.

namespace lutsmith::device {

template <class Config>
struct WeightUnit {
  using G = Geometry<Config>;
  static constexpr int kWords = 2 * Config::kBits;  // 32-bit words of codes in a record, per lane
  /// Slices of 4 and 2 bits come in 16-byte vectors of 4 words; that of 1 bit is one of 8 bytes.
  static constexpr int kVectors = Config::kBits / 2;
  static constexpr bool kHalfVector = Config::kBits % 2 == 1;
  static constexpr int kScaleWords = G::kUnitGroups;
  /// Records of one panel; a unit has those of one or, where its rows are 64, of two.
  static constexpr int kPanelRecords =
      G::kRecords < layout::kRecordsPerPanel ? G::kRecords : layout::kRecordsPerPanel;

  unsigned int codes[G::kRecords][kWords];
  /// Scales of rows g (low half) and g + 8 (high half).
  unsigned int scales[G::kRecords][kScaleWords > 0 ? kScaleWords : 1];
  /// Likewise, where the format has them.
  unsigned int offsets[G::kRecords][Config::kOffsets ? kScaleWords : 1];

  /// Reads the lane's share of the unit's records in one panel, at `records`, of which the first has its
  /// scales at `first_scales`; `From` says how (StreamedWeights, StagedWeights).
  template <class From, int kPanel = 0>
  __device__ __forceinline__ void read(const unsigned char* records, const unsigned char* first_scales,
                                       int lane) {
    constexpr int kNextScales = G::kScalesInRecord ? G::kRecordBytes : G::kGroupBytes;
    records += lane * 16;
    first_scales += lane / 4 * 4;
#pragma unroll
    for (int record = 0; record < kPanelRecords; ++record) {
      constexpr int kFirst = kPanel * kPanelRecords;
      const unsigned char* from = records + record * G::kRecordBytes;
#pragma unroll
      for (int vector = 0; vector < kVectors; ++vector) {
        const uint4 words = From::load_16(from + vector * layout::kLanes * 16);
        unsigned int* to = codes[kFirst + record] + 4 * vector;
        to[0] = words.x, to[1] = words.y, to[2] = words.z, to[3] = words.w;
      }
      if constexpr (kHalfVector) {
        // `from` stands lane * 16 bytes on; these vectors are half as long.
        const uint2 words = From::load_8(from + kVectors * layout::kLanes * 16 - lane * 8);
        codes[kFirst + record][kWords - 2] = words.x, codes[kFirst + record][kWords - 1] = words.y;
      }
#pragma unroll
      for (int group = 0; group < kScaleWords; ++group) {
        scales[kFirst + record][group] =
            From::load_scales(first_scales + record * kNextScales + group * G::kGroupBytes);
        if constexpr (Config::kOffsets) {
          offsets[kFirst + record][group] = From::load_scales(first_scales + layout::kOffsetBehindScale +
                                                              record * kNextScales + group * G::kGroupBytes);
        }
      }
    }
  }

  /// The codes of one mma, one in each nibble: byte a is the pair index of A register a.
  __device__ __forceinline__ unsigned int nibbles(int record, int mma) const {
    static_assert(Config::kBits <= 4, "the slices of wider codes join to bytes");
    if constexpr (Config::kBits == 4) return codes[record][mma];
    unsigned int joined = 0;
    if constexpr ((Config::kBits & 2) != 0) joined = codes[record][mma / 2] >> mma % 2 * 2 & 0x33333333u;
    if constexpr ((Config::kBits & 1) != 0) {
      const unsigned int word = codes[record][kWords - 2 + mma / 4];
      const int up = Config::kBits - 1 - mma % 4;  // from the bit of this mma to the top of the code
      joined |= (up > 0 ? word << up : word >> -up) & 0x11111111u << (Config::kBits - 1);
    }
    return joined;
  }
};

}  // namespace lutsmith::device
