#pragma once

#include "templates/kernel_arguments.h"
#include "templates/shared_memory.h"

// Look-up of two weights at once in a table of pairs in shared memory.
//
// Entry i, for the index byte i = code of the even k + 16 * code of the odd k, is a 32-bit pair of
// 16-bit floats. It stands 32 times, once in each bank, so that the 32 look-ups of a warp never
// conflict; with 256 bytes from entry to entry a lane's address is one byte permutation:
//
//   byte 1 = index byte, byte 0 = 4 * lane
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
      *reinterpret_cast<uint4*>(shared + (odd * 16 + even) * kEntryStride + i % kVectors * 16) =
          make_uint4(pair, pair, pair, pair);
    }
  }

  /// The A registers of one mma from its 8 codes, one in each nibble. `table` is where the table stands
  /// in shared memory.
  ///
  /// One statement for four look-ups, which the compiler takes for arithmetic: it is free to move them
  /// among the mma, and has a quarter of the work with them. `lane_offset` must therefore come out of
  /// readable_from_here(), after the barrier behind fill().
  static __device__ __forceinline__ void look_up(unsigned int (&a)[4], unsigned int table,
                                                 unsigned int nibbles, unsigned int lane_offset) {
    asm("{\n"
        "  .reg .b32 at0, at1, at2, at3;\n"
        "  prmt.b32 at0, %4, %5, 0x7704;\n"
        "  prmt.b32 at1, %4, %5, 0x7714;\n"
        "  prmt.b32 at2, %4, %5, 0x7724;\n"
        "  prmt.b32 at3, %4, %5, 0x7734;\n"
        "  add.u32 at0, at0, %6;\n"
        "  add.u32 at1, at1, %6;\n"
        "  add.u32 at2, at2, %6;\n"
        "  add.u32 at3, at3, %6;\n"
        "  ld.shared.u32 %0, [at0];\n"
        "  ld.shared.u32 %1, [at1];\n"
        "  ld.shared.u32 %2, [at2];\n"
        "  ld.shared.u32 %3, [at3];\n"
        "}"
        : "=r"(a[0]), "=r"(a[1]), "=r"(a[2]), "=r"(a[3])
        : "r"(nibbles), "r"(lane_offset), "r"(table));
  }

  /// A lane's offset into every entry, which the compiler knows only from here on: no look-up goes ahead.
  static __device__ __forceinline__ unsigned int readable_from_here(int lane) {
    unsigned int lane_offset = static_cast<unsigned int>(lane) * 4;
    asm volatile("" : "+r"(lane_offset));
    return lane_offset;
  }
};

}  // namespace lutsmith::device
