#pragma once

#include "templates/look_up/contract.cuh"
#include "templates/look_up/pair_table_bytes.h"
#include "templates/primitives/pair_look_up.cuh"
#include "templates/primitives/shared_memory.cuh"

// Look-up of two weights at once in a table of pairs in shared memory.
//
// Entry i, for the index byte i = code of the even k + 16 * code of the odd k, is a 32-bit pair of
// 16-bit floats. It stands 32 times, once in each bank, so that the 32 look-ups of a warp never
// conflict. A lane's address is one instruction in both forms of the table (primitives/pair_look_up.cuh):
//
//   256 bytes from entry to entry: a byte permutation, byte 1 = index byte, byte 0 = 4 * lane
//   128:                           a dot product of bytes, 128 * index byte + 4 * lane
//
// The permutation was a little faster with many products to a look-up, and the gaps hold what the kernel puts
// there; the compact table
// leaves room on a multiprocessor for the next launch.

namespace lutsmith::device {

template <class Config>
class LookUp {
 public:
  using Parameter = InlineTable<Config>;

  static constexpr int kEntryStride =
      Config::kCompactTable ? pair_table::kCompactEntryStride : pair_table::kEntryStride;

  static constexpr int kSharedBytes = pair_table::shared_bytes(Config::kBits, kEntryStride);

  /// From `parameter.table`, of the kernel's parameter or of a segment.
  template <class Table>
  static __device__ __forceinline__ void fill(unsigned char* shared, const Table& parameter, int thread,
                                              int threads) {
    const int lane = thread % layout::kLanes;
    if constexpr (Config::kPairTable) {
#pragma unroll 1
      for (unsigned int code = thread / kVectors; code < kLevels * kLevels; code += threads / kVectors) {
        store(shared, code % kLevels, code / kLevels, lane, table_word(parameter, code));
      }
    } else {
      // The values of even codes that a lane has are picked from words at constant places: lanes that each
      // read another place of the parameter would be served one after another, and all look-ups behind them.
      unsigned int even[kTurns];
#pragma unroll
      for (int turn = 0; turn < kTurns; ++turn) {
        const int last = kLevels / 2 - 1;
        const unsigned int first = table_word(parameter, 2 * turn < last ? 2 * turn : last);
        const unsigned int second = table_word(parameter, 2 * turn + 1 < last ? 2 * turn + 1 : last);
        const unsigned int word = (lane & 2 * kVectors) != 0 ? second : first;
        even[turn] = (lane & kVectors) != 0 ? word >> 16 : word & 0xffffu;
      }
#pragma unroll 1
      for (unsigned int odd = thread / layout::kLanes; odd < kLevels; odd += threads / layout::kLanes) {
        const unsigned int high = static_cast<unsigned int>(parameter.table[odd]) << 16;
#pragma unroll
        for (int turn = 0; turn < kTurns; ++turn) {
          const unsigned int code = turn * kEntriesOfWarp + lane / kVectors;
          // With one bit a warp has more lanes than entries.
          if (kLevels % kEntriesOfWarp == 0 || code < kLevels)
            store(shared, code, odd, lane, even[turn] | high);
        }
      }
    }
  }

  __device__ __forceinline__ LookUp(unsigned char* shared, const Parameter&)
      : table_(shared_address(shared)) {}

  __device__ __forceinline__ void begin_segment(int, int lane) { lane_offset_ = readable_from_here(lane); }

  template <class Unit>
  __device__ __forceinline__ void look_up(unsigned int (&a)[4], const Unit& unit, int record, int mma) const {
    if constexpr (Config::kCompactTable) {
      look_up_compact_pairs(a, table_ + lane_offset_, unit.nibbles(record, mma));
    } else {
      look_up_pairs(a, table_, unit.nibbles(record, mma), lane_offset_);
    }
  }

 private:
  static constexpr unsigned int kLevels = 1u << Config::kBits;
  static constexpr int kVectors = 8;  // 16-byte stores for the 32 copies of an entry
  static constexpr int kEntriesOfWarp = layout::kLanes / kVectors;
  static constexpr int kTurns = (static_cast<int>(kLevels) + kEntriesOfWarp - 1) / kEntriesOfWarp;

  /// Two values of the table.
  template <class Table>
  static __device__ __forceinline__ unsigned int table_word(const Table& parameter, int word) {
    return reinterpret_cast<const unsigned int*>(parameter.table)[word];
  }

  static __device__ __forceinline__ void store(unsigned char* shared, unsigned int even, unsigned int odd,
                                               int lane, unsigned int pair) {
    unsigned char* entry = shared + (odd * pair_table::kOddStride + even) * kEntryStride;
    store_shared(reinterpret_cast<uint4*>(entry + lane % kVectors * 16), make_uint4(pair, pair, pair, pair));
  }

  unsigned int table_;            ///< address in shared memory
  unsigned int lane_offset_ = 0;  ///< of this lane's copy in a table entry
};

}  // namespace lutsmith::device
