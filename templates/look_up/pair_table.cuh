#pragma once

#include "templates/look_up/contract.cuh"
#include "templates/look_up/pair_table_bytes.h"
#include "templates/primitives/pair_look_up.cuh"
#include "templates/primitives/shared_memory.cuh"

// Look-up of two weights at once in a table of pairs in shared memory.
//
// Entry i, for the index byte i = code of the even k + 16 * code of the odd k, is a 32-bit pair of
// 16-bit floats. It stands 32 times, once in each bank, so that the 32 look-ups of a warp never
// conflict; with 256 bytes from entry to entry a lane's address is one byte permutation:
//
//   byte 1 = index byte, byte 0 = 4 * lane        (look_up_pairs in primitives/pair_look_up.cuh)
//
// (The upper 128 bytes of every 256 are unused here: the second instruction that would close the gap costs
// more than the space. The kernel may put something else there.)

namespace lutsmith::device {

template <class Config>
class LookUp {
 public:
  using Parameter = InlineTable<Config>;

  static constexpr int kSharedBytes = pair_table::shared_bytes(Config::kBits);

  static __device__ __forceinline__ void fill(unsigned char* shared, const Parameter& parameter, int thread,
                                              int threads) {
    constexpr int kVectors = 8;  // 16-byte stores for the 32 copies of an entry
#pragma unroll 1
    for (int i = thread; i < static_cast<int>(kLevels * kLevels) * kVectors; i += threads) {
      const unsigned int code = static_cast<unsigned int>(i) / kVectors;
      const unsigned int even = code % kLevels;
      const unsigned int odd = code / kLevels;
      const unsigned int low = parameter.table[Config::kPairTable ? 2 * code : even];
      const unsigned int high = parameter.table[Config::kPairTable ? 2 * code + 1 : odd];
      const unsigned int pair = low | high << 16;
      unsigned char* entry = shared + (odd * pair_table::kOddStride + even) * pair_table::kEntryStride;
      store_shared(reinterpret_cast<uint4*>(entry + i % kVectors * 16), make_uint4(pair, pair, pair, pair));
    }
  }

  __device__ __forceinline__ LookUp(unsigned char* shared, const Parameter&)
      : table_(shared_address(shared)) {}

  __device__ __forceinline__ void begin_segment(int, int lane) { lane_offset_ = readable_from_here(lane); }

  template <class Unit>
  __device__ __forceinline__ void look_up(unsigned int (&a)[4], const Unit& unit, int record, int mma) const {
    look_up_pairs(a, table_, unit.nibbles(record, mma), lane_offset_);
  }

 private:
  static constexpr unsigned int kLevels = 1u << Config::kBits;

  unsigned int table_;            ///< address in shared memory
  unsigned int lane_offset_ = 0;  ///< of this lane's copy in a table entry
};

}  // namespace lutsmith::device
