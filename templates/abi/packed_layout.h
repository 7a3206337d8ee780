#pragma once

#include "templates/abi/host_device.h"

// The layout of packed weights, written once: the packer, its inverse and the device code all take
// it from here. Plain C++17 without the standard library, so that NVRTC reads it too.
//
// The matrix [n, k] is cut into panels of 32 rows x 128 k. Panels follow one another along k, then
// along n. A panel is two records, one for each half of 16 rows:
//
//      k = 0        128       256
//   n=0  +----------+----------+--   panel (0, 0) = | record of rows 0..15  | record of rows 16..31 |
//        | panel 0,0| panel 0,1|
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
// group spans records, so its scales stand in a plane of their own after the last panel:
// [row panel][group][half][g][row g, row g + 8]. Per channel is one group.
//
// Offsets, where the format has them: behind the 16 scales of a group stand its 16 offsets, in the same
// order.
//
// Tables, where each row has its own: a plane of them behind everything else, rows from 0 on, and zeros for
// those that fill the last panel. Of a row first the low bytes of its 2^b values stand there, then the high
// ones: a byte permutation picks from eight bytes, so kernels look up the halves of values apart
// (templates/look_up/row_table.cuh).
//
//   row 0: | low 0 | low 1 | ... | high 0 | high 1 | ... |  row 1: | low 0 | ...
//
// Below, a record is named by its record row (16 rows) and its column panel (128 k).

namespace lutsmith::layout {

constexpr int kPanelRows = 32;
constexpr int kRecordRows = 16;
constexpr int kRecordColumns = 128;
constexpr int kLanes = 32;
constexpr int kMmaPerRecord = 8;
constexpr int kRecordsPerPanel = kPanelRows / kRecordRows;
constexpr int kPerChannelGroup = 0;

constexpr int kScaleBytes = 2;
constexpr int kOffsetBytes = 2;
constexpr int kTableValueBytes = 2;
/// From the scale of a row to its offset.
constexpr int kOffsetBehindScale = kRecordRows * kScaleBytes;

/// Bytes of one slice in a record.
LUTSMITH_HOST_DEVICE constexpr int slice_bytes(int slice_bits) {
  return kRecordRows * kRecordColumns * slice_bits / 8;
}

/// Index of a row's scale among the 16 of its group: rows g and g + 8 are neighbours.
LUTSMITH_HOST_DEVICE constexpr int scale_index(int row) { return row % 8 * 2 + row / 8; }

}  // namespace lutsmith::layout

namespace lutsmith {

/// The packed form of a matrix [n, k]: sizes in bytes, and where everything begins.
struct PackedLayout {
  int bits;
  int group;  ///< weights along k that share a scale, or layout::kPerChannelGroup
  long long n;
  long long k;
  bool offsets = false;
  bool row_tables = false;

  /// All codes of a record.
  LUTSMITH_HOST_DEVICE constexpr int code_bytes() const { return layout::slice_bytes(1) * bits; }

  /// What 16 rows have in one group.
  LUTSMITH_HOST_DEVICE constexpr int group_bytes() const {
    return layout::kRecordRows * (layout::kScaleBytes + (offsets ? layout::kOffsetBytes : 0));
  }

  LUTSMITH_HOST_DEVICE constexpr bool per_channel() const { return group == layout::kPerChannelGroup; }

  /// Whether kernels apply the scales to finished sums. With an offset beside each, which needs the sum of X
  /// as well, a channel is a group like any other.
  LUTSMITH_HOST_DEVICE constexpr bool scales_of_sums() const { return per_channel() && !offsets; }

  /// The group of a column panel, where groups stand in the plane.
  LUTSMITH_HOST_DEVICE constexpr int plane_group(int column_panel) const {
    return per_channel() ? 0 : column_panel / (group / layout::kRecordColumns);
  }
  /// Whether the scales stand in the records (else in the plane).
  LUTSMITH_HOST_DEVICE constexpr bool scales_in_record() const {
    return !per_channel() && group <= layout::kRecordColumns;
  }

  /// Groups that have their scales in one record.
  LUTSMITH_HOST_DEVICE constexpr int groups_per_record() const {
    return scales_in_record() ? layout::kRecordColumns / group : 0;
  }

  LUTSMITH_HOST_DEVICE constexpr int record_bytes() const {
    return code_bytes() + groups_per_record() * group_bytes();
  }

  LUTSMITH_HOST_DEVICE constexpr int panel_bytes() const { return layout::kRecordsPerPanel * record_bytes(); }

  LUTSMITH_HOST_DEVICE constexpr long long row_panels() const {
    return (n + layout::kPanelRows - 1) / layout::kPanelRows;
  }

  LUTSMITH_HOST_DEVICE constexpr long long column_panels() const {
    return (k + layout::kRecordColumns - 1) / layout::kRecordColumns;
  }

  /// All panels of 32 rows.
  LUTSMITH_HOST_DEVICE constexpr long long row_panel_bytes() const { return column_panels() * panel_bytes(); }

  /// Groups of one row in the plane; 0 where scales stand in the records.
  LUTSMITH_HOST_DEVICE constexpr long long plane_groups() const {
    return scales_in_record() ? 0 : per_channel() ? 1 : (k + group - 1) / group;
  }

  /// What 32 rows have in the plane.
  LUTSMITH_HOST_DEVICE constexpr long long row_panel_plane_bytes() const {
    return plane_groups() * layout::kRecordsPerPanel * group_bytes();
  }

  /// Where the plane of scales begins: right after the panels.
  LUTSMITH_HOST_DEVICE constexpr long long plane_offset() const { return row_panels() * row_panel_bytes(); }

  /// The table of one row; 0 where rows have none of their own.
  LUTSMITH_HOST_DEVICE constexpr int row_table_bytes() const {
    return row_tables ? layout::kTableValueBytes << bits : 0;
  }

  /// What 32 rows have in the plane of tables.
  LUTSMITH_HOST_DEVICE constexpr int row_panel_table_bytes() const {
    return layout::kPanelRows * row_table_bytes();
  }

  /// Where the plane of tables begins: right after that of scales.
  LUTSMITH_HOST_DEVICE constexpr long long tables_offset() const {
    return plane_offset() + row_panels() * row_panel_plane_bytes();
  }

  /// Where the table of a row begins.
  LUTSMITH_HOST_DEVICE constexpr long long row_table_offset(long long row) const {
    return tables_offset() + row * row_table_bytes();
  }

  LUTSMITH_HOST_DEVICE constexpr long long packed_bytes() const {
    return tables_offset() + row_panels() * row_panel_table_bytes();
  }

  /// Where a record begins; an even record row begins a panel.
  LUTSMITH_HOST_DEVICE constexpr long long record_offset(int record_row, int column_panel) const {
    return (static_cast<long long>(record_row / layout::kRecordsPerPanel) * column_panels() + column_panel) *
               panel_bytes() +
           record_row % layout::kRecordsPerPanel * record_bytes();
  }

  /// Where in a record the scales of a group begin; groups count within the record.
  LUTSMITH_HOST_DEVICE constexpr int record_group_offset(int in_record) const {
    return code_bytes() + in_record * group_bytes();
  }

  /// Where the scales of a record row in a group begin in the plane; groups count along k.
  LUTSMITH_HOST_DEVICE constexpr long long plane_group_offset(int record_row, int along_k) const {
    // With one group the halves of all row panels follow one another.
    if (per_channel()) return plane_offset() + static_cast<long long>(record_row) * group_bytes();
    const int row_panel = record_row / layout::kRecordsPerPanel;
    return plane_offset() +
           ((static_cast<long long>(row_panel) * plane_groups() + along_k) * layout::kRecordsPerPanel +
            record_row % layout::kRecordsPerPanel) *
               group_bytes();
  }

  /// Where the scale of a row in a group is, wherever it stands; groups count along k.
  LUTSMITH_HOST_DEVICE constexpr long long scale_offset(int row, int along_k) const {
    const int record_row = row / layout::kRecordRows;
    const long long group_offset = scales_in_record()
                                       ? record_offset(record_row, along_k / groups_per_record()) +
                                             record_group_offset(along_k % groups_per_record())
                                       : plane_group_offset(record_row, along_k);
    return group_offset + layout::scale_index(row % layout::kRecordRows) * layout::kScaleBytes;
  }
};

/// Of anything that has these six.
template <class Format>
LUTSMITH_HOST_DEVICE constexpr PackedLayout packed_layout(const Format& format) {
  return {format.bits,        format.group, format.n, format.k, static_cast<bool>(format.offsets),
          format.row_tables()};
}

}  // namespace lutsmith
