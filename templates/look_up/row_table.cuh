#pragma once

#include "templates/look_up/contract.cuh"
#include "templates/primitives/global_memory.cuh"
#include "templates/primitives/pairs.cuh"

// Look-up where each row has a table of its own, by byte permutations in registers. Shared memory has no room
// for pairs of all rows, and needs none: a lane has codes of rows g and g + 8 of each record alone, so it
// keeps the tables of those. A permutation picks four bytes of eight, by three bits of the code for each. So
// low and high bytes of values are looked up apart, four codes of a row at a time, and joined:
//
//   codes c0 c1 c2 c3   ->   low bytes   l0 l1 l2 l3   ->   h1 l1 h0 l0   (one A register)
//                            high bytes  h0 h1 h2 h3        h3 l3 h2 l2   (another)
//
// With four bits there are two tables of eight bytes, between which the code's highest bit decides. It must
// not reach the selector, where it would ask for the sign of a byte instead of the byte; asked for the sign
// of the codes themselves, a permutation makes the mask of it.
//
// The plane of tables has the registers as they are kept here (abi/packed_layout.h).

namespace lutsmith::device {

/// Config::kTileRows: of a warp.
template <class Config>
class LookUp {
 public:
  using Parameter = RowTablesParameter;

  static constexpr int kSharedBytes = 0;

  static __device__ __forceinline__ void fill(unsigned char*, const Parameter&, int, int) {}

  __device__ __forceinline__ LookUp(unsigned char*, const Parameter& parameter) : launch_(parameter.launch) {}

  /// Asks for the tables of a tile, which no launch writes. Nobody waits for them before the first look-up,
  /// so this stands as far ahead of it as the tables of the last tile allow. Rows behind the matrix have
  /// those of its last rows: they are not written.
  __device__ __forceinline__ void load_tables(int row_tile, int lane) {
    constexpr PackedLayout kLayout = packed_layout_of<Config>();
    constexpr int kLastRow = static_cast<int>(kLayout.row_panels()) * layout::kPanelRows - Config::kTileRows;
    const int row = min(row_tile * Config::kTileRows, kLastRow) + lane / 4;
    const unsigned char* from = launch_.weights + kLayout.row_table_offset(row);
#pragma unroll
    for (int record = 0; record < kRecords; ++record) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        read(tables_[record][half],
             from + (record * layout::kRecordRows + half * 8) * kLayout.row_table_bytes());
      }
    }
  }

  __device__ __forceinline__ void begin_segment(int, int) {}

  template <class Unit>
  __device__ __forceinline__ void look_up(unsigned int (&a)[4], const Unit& unit, int record, int mma) const {
    const unsigned int nibbles = unit.nibbles(record, mma);
    const unsigned int selectors = kBits == 4 ? nibbles & 0x77777777u : nibbles;
    // Codes of even A registers are of row g, those of odd ones of row g + 8.
    const unsigned int even = permute_bytes(selectors, selectors, 0x2020);
    const unsigned int odd = permute_bytes(selectors, selectors, 0x3131);
    unsigned int even_upper = 0;
    unsigned int odd_upper = 0;
    if constexpr (kBits == 4) {
      const unsigned int lower_nibbles = nibbles << 4;
      even_upper = permute_bytes(nibbles, lower_nibbles, 0xae8c);
      odd_upper = permute_bytes(nibbles, lower_nibbles, 0xbf9d);
    }
    look_up_row(a[0], a[2], tables_[record][0], even, even_upper);
    look_up_row(a[1], a[3], tables_[record][1], odd, odd_upper);
  }

 private:
  static constexpr int kBits = Config::kBits;
  static constexpr int kRecords = Config::kTileRows / layout::kRecordRows;
  /// Of the low or the high bytes of a table: with one and two bits they fill no more than one.
  static constexpr int kPlaneWords = kBits <= 2 ? 1 : 1 << (kBits - 2);

  struct RowTable {
    unsigned int low[kPlaneWords];
    unsigned int high[kPlaneWords];
  };

  static __device__ __forceinline__ void read(RowTable& table, const unsigned char* from) {
    if constexpr (kBits == 4) {
      const uint4 low = StreamedWeights::load_16(from);
      const uint4 high = StreamedWeights::load_16(from + 16);
      table.low[0] = low.x, table.low[1] = low.y, table.low[2] = low.z, table.low[3] = low.w;
      table.high[0] = high.x, table.high[1] = high.y, table.high[2] = high.z, table.high[3] = high.w;
    } else if constexpr (kBits == 3) {
      const uint4 words = StreamedWeights::load_16(from);
      table.low[0] = words.x, table.low[1] = words.y;
      table.high[0] = words.z, table.high[1] = words.w;
    } else if constexpr (kBits == 2) {
      const uint2 words = StreamedWeights::load_8(from);
      table.low[0] = words.x, table.high[0] = words.y;
    } else {
      const unsigned int word = StreamedWeights::load_scales(from);
      table.low[0] = word, table.high[0] = word >> 16;
    }
  }

  /// The values of four codes: of the first two and of the others.
  static __device__ __forceinline__ void look_up_row(unsigned int& first, unsigned int& second,
                                                     const RowTable& table, unsigned int selectors,
                                                     unsigned int upper) {
    const unsigned int low = look_up_bytes_of(table.low, selectors, upper);
    const unsigned int high = look_up_bytes_of(table.high, selectors, upper);
    first = permute_bytes(low, high, 0x5140);
    second = permute_bytes(low, high, 0x7362);
  }

  /// Low or high bytes. `upper` has ones in the bytes whose code has its fourth bit set.
  static __device__ __forceinline__ unsigned int look_up_bytes_of(const unsigned int (&plane)[kPlaneWords],
                                                                  unsigned int selectors,
                                                                  unsigned int upper) {
    const unsigned int lower_eight = permute_bytes(plane[0], plane[kPlaneWords > 1 ? 1 : 0], selectors);
    if constexpr (kBits < 4) {
      return lower_eight;
    } else {
      return (permute_bytes(plane[2], plane[3], selectors) & upper) | (lower_eight & ~upper);
    }
  }

  const LaunchArguments& launch_;
  RowTable tables_[kRecords][2];  ///< of rows g and g + 8
};

}  // namespace lutsmith::device
