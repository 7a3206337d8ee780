#pragma once

#include "templates/abi/kernel_arguments.h"
#include "templates/few_tokens/shared_memory.h"
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
// (The upper 128 bytes of every 256 are unused: the second instruction that would close the gap costs
// more than the space.)

namespace lutsmith::device {

template <class Config>
struct PairTable {
  static constexpr int kEntryStride = shared_memory::kTableEntryStride;
  static constexpr unsigned int kLevels = 1u << Config::kBits;
  static constexpr int kLength = Config::kPairTable ? 2 * kLevels * kLevels : kLevels;
  using Parameter = KernelParameter<kLength>;

  /// All threads of the block fill it together; a block barrier must follow.
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
      unsigned char* entry = shared + (odd * 16 + even) * kEntryStride;
      store_shared(reinterpret_cast<uint4*>(entry + i % kVectors * 16), make_uint4(pair, pair, pair, pair));
    }
  }
};

}  // namespace lutsmith::device
