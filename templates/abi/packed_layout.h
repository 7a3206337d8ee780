#pragma once

// The layout of packed weights, written once: the packer, its inverse and the device code all take
// it from here. Plain C++17 without any include, so that NVRTC reads it too.
//
// The matrix [n, k] is cut into blocks of 32 rows x 128 k. Blocks follow one another along k, then
// along n. A block is two records, one for each half of 16 rows:
//
//      k = 0        128       256
//   n=0  +----------+----------+--   block (0, 0) = | record of rows 0..15  | record of rows 16..31 |
//        | block 0,0| block 0,1|
//    32  +----------+----------+--   record = | slice | slice ... | scales |
//
// What a warp of 32 lanes holds of a record is the A operand of 8 mma.m16n8k16: with g = lane / 4
// and t = lane % 4, the lane's A register a (0..3) of mma j (0..7) holds the two weights (e = 0, 1)
//
//   row = g + 8 * (a % 2)
//   k   = 32 * (j / 2) + 8 * t + 4 * (j % 2) + 2 * (a / 2) + e
//
// so that a lane's activations for two mma are 8 neighbouring k: one 16-byte load of row-major X.
//
// A code of b bits is stored as bit slices of 4, 2 and 1 bits, low bits first (3 = 2 + 1). In a
// slice of s bits a 32-bit word holds the codes of 4 / s consecutive mma. A word is 8 nibbles:
//
//   bit  31   28 27   24 23   20 19   16 15   12 11    8 7     4 3     0
//        | a3 e1 | a3 e0 | a2 e1 | a2 e0 | a1 e1 | a1 e0 | a0 e1 | a0 e0 |
//
// and a nibble holds those 4 / s codes, s bits each, first mma lowest. Joining the slices of one mma
// therefore gives, for every b <= 4, the same 8 nibbles of one code each: byte a is the pair index of
// A register a.
//
// The words of a lane: slices of 4 bits have 8, in two 16-byte vectors; of 2 bits 4, in one; of 1 bit
// 2, in one 8-byte vector. A vector of all lanes is contiguous, lane 0 first.
//
// Scales: with group <= 128 the record ends with them, [128 / group][g][row g, row g + 8]. A larger
// group spans records, so its scales stand in a plane of their own after the last block:
// [row block][group][half][g][row g, row g + 8]. Per channel is one group.

#if defined(__CUDACC__)
#define LUTSMITH_HOST_DEVICE __host__ __device__
#else
#define LUTSMITH_HOST_DEVICE
#endif

namespace lutsmith::layout {

constexpr int kBlockRows = 32;
constexpr int kRecordRows = 16;
constexpr int kRecordColumns = 128;
constexpr int kLanes = 32;
constexpr int kMmaPerRecord = 8;
constexpr int kScaleBytes = 2;
constexpr int kPerChannelGroup = 0;

/// The slices of a code of `bits`: how many there are, the bits of each, and the code bit each
/// starts at. Low bits first, widest first.
struct Slices {
  int count;
  int bits[3];
  int shift[3];
};

LUTSMITH_HOST_DEVICE constexpr Slices slices(int bits) {
  Slices result{0, {0, 0, 0}, {0, 0, 0}};
  int shift = 0;
  while (shift < bits) {
    const int left = bits - shift;
    const int width = left >= 4 ? 4 : left >= 2 ? 2 : 1;
    result.bits[result.count] = width;
    result.shift[result.count] = shift;
    ++result.count;
    shift += width;
  }
  return result;
}

/// Bytes of one slice in a record.
LUTSMITH_HOST_DEVICE constexpr int slice_bytes(int slice_bits) {
  return kRecordRows * kRecordColumns * slice_bits / 8;
}

/// Bytes of all codes in a record.
LUTSMITH_HOST_DEVICE constexpr int code_bytes(int bits) { return slice_bytes(1) * bits; }

/// Whether the scales stand in the records (else in the plane).
LUTSMITH_HOST_DEVICE constexpr bool scales_in_record(int group) {
  return group != kPerChannelGroup && group <= kRecordColumns;
}

/// Groups that have their scales in one record.
LUTSMITH_HOST_DEVICE constexpr int groups_per_record(int group) {
  return scales_in_record(group) ? kRecordColumns / group : 0;
}

/// Bytes of the scales of one group in a record: 16 rows.
constexpr int kGroupScaleBytes = kRecordRows * kScaleBytes;

LUTSMITH_HOST_DEVICE constexpr int record_bytes(int bits, int group) {
  return code_bytes(bits) + groups_per_record(group) * kGroupScaleBytes;
}

LUTSMITH_HOST_DEVICE constexpr int block_bytes(int bits, int group) { return 2 * record_bytes(bits, group); }

LUTSMITH_HOST_DEVICE constexpr long long row_blocks(long long n) { return (n + kBlockRows - 1) / kBlockRows; }

LUTSMITH_HOST_DEVICE constexpr long long column_blocks(long long k) {
  return (k + kRecordColumns - 1) / kRecordColumns;
}

/// Groups of one row in the plane; 0 where scales stand in the records.
LUTSMITH_HOST_DEVICE constexpr long long plane_groups(int group, long long k) {
  return scales_in_record(group) ? 0 : group == kPerChannelGroup ? 1 : (k + group - 1) / group;
}

/// Where the plane of scales begins: right after the blocks.
LUTSMITH_HOST_DEVICE constexpr long long plane_offset(int bits, int group, long long n, long long k) {
  return row_blocks(n) * column_blocks(k) * block_bytes(bits, group);
}

LUTSMITH_HOST_DEVICE constexpr long long packed_bytes(int bits, int group, long long n, long long k) {
  return plane_offset(bits, group, n, k) + row_blocks(n) * plane_groups(group, k) * 2 * kGroupScaleBytes;
}

/// Where in a slice the code at (row, column) of a record stands.
struct CodePlace {
  int word;  ///< 32-bit word of the slice
  int bit;   ///< lowest bit in that word
};

LUTSMITH_HOST_DEVICE constexpr CodePlace code_place(int slice_bits, int row, int column) {
  const int g = row % 8;
  const int t = column / 8 % 4;
  const int lane = 4 * g + t;
  const int mma = 2 * (column / 32) + column / 4 % 2;
  const int a = row / 8 + 2 * (column / 2 % 2);
  const int e = column % 2;
  const int mma_per_word = 4 / slice_bits;
  const int lane_word = mma / mma_per_word;
  const int words = kMmaPerRecord / mma_per_word;  // of one lane
  const int vector_words = words < 4 ? words : 4;  // of one load
  const int word = (lane_word / vector_words * kLanes + lane) * vector_words + lane_word % vector_words;
  return {word, 8 * a + 4 * e + mma % mma_per_word * slice_bits};
}

/// Index of a row's scale among the 16 of its group: rows g and g + 8 are neighbours.
LUTSMITH_HOST_DEVICE constexpr int scale_index(int row) { return row % 8 * 2 + row / 8; }

}  // namespace lutsmith::layout
