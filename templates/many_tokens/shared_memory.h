#pragma once

#include "templates/abi/packed_layout.h"
#include "templates/look_up/pair_table_bytes.h"

// The dynamic shared memory of a block, for the host that requests it and the device that uses it:
//
//   | look-up engine | X stages | weight stages | passage | barriers | flag |
//
// Through the passage the groups along K hand each other their sums, as many octets of tokens at a time as it
// has room for, after them the blocks of a cluster, and then the output passes. With the pair table of 4 bits
// the passage takes no space of its own: it is cut into rows of 128 bytes, which lie in the gaps between the
// table's entries.

namespace lutsmith::many_tokens {

constexpr int kWarpgroupRows = 64;  // the rows of one warpgroup's product
constexpr int kStageColumns = 64;   // of X: 128 bytes of a token
constexpr int kStagesPerUnit = layout::kRecordColumns / kStageColumns;
constexpr int kAlignment = 1024;  // of an X stage: the 128-byte swizzle repeats there

/// An entry of the pair table, 32 copies of 4 bytes, takes the lower half of its stride: the rest is a gap.
constexpr int kGapOffset = 128;
constexpr int kPassageRowBytes = pair_table::kEntryStride - kGapOffset;
/// More would not fit into the gaps, and takes stages from X elsewhere.
constexpr int kMostPassageBytes = 32 << 10;
/// A warpgroup stages its output a token in a row of the passage.
static_assert(kPassageRowBytes == kWarpgroupRows * 2);
/// Octets of tokens that a warpgroup stages at a time; four warpgroups have too few registers for more, and
/// the blocks of a cluster finish every second pair of them.
LUTSMITH_HOST_DEVICE constexpr int staged_octets(int own_octets, int warpgroups, int cluster_blocks) {
  return own_octets % 4 == 0 && warpgroups < 4 && cluster_blocks == 1 ? 4 : 2;
}

/// What the layout depends on.
struct SharedMemory {
  PackedLayout weights;
  int look_up_bytes;
  int tile_rows;
  int tile_tokens;
  int k_groups;
  int cluster_blocks;
  int activation_stages;
  int weight_stages;

  LUTSMITH_HOST_DEVICE constexpr int warpgroups() const { return tile_rows / kWarpgroupRows * k_groups; }

  LUTSMITH_HOST_DEVICE constexpr int activation_stage_bytes() const {
    return tile_tokens * kStageColumns * 2;
  }

  /// Whether the scales of a unit stand in the plane, from where they are copied behind each panel.
  LUTSMITH_HOST_DEVICE constexpr bool plane() const {
    return !weights.scales_in_record() && !weights.scales_of_sums();
  }
  LUTSMITH_HOST_DEVICE constexpr int plane_bytes() const {
    return plane() ? layout::kRecordsPerPanel * weights.group_bytes() : 0;
  }
  /// A panel and its scales.
  LUTSMITH_HOST_DEVICE constexpr int staged_panel_bytes() const {
    return weights.panel_bytes() + plane_bytes();
  }
  LUTSMITH_HOST_DEVICE constexpr int weight_stage_bytes() const {
    return tile_rows / layout::kPanelRows * staged_panel_bytes();
  }
  /// Octets of tokens that each group along K adds up.
  LUTSMITH_HOST_DEVICE constexpr int own_octets() const { return tile_tokens / 8 / k_groups; }
  /// Octets that each of two groups hands to the other at a time: a divisor of all.
  LUTSMITH_HOST_DEVICE constexpr int exchanged_octets() const {
    int octets = own_octets();
    while (own_octets() % octets != 0 || exchange_bytes(octets) > kMostPassageBytes) --octets;
    return octets;
  }
  LUTSMITH_HOST_DEVICE constexpr int exchange_bytes(int octets) const {
    return (k_groups - 1) * 2 * octets * 8 * tile_rows * 4;
  }
  /// Of those of a group, octets that a block of a cluster finishes at most: every second pair.
  LUTSMITH_HOST_DEVICE constexpr int finished_octets() const {
    return cluster_blocks == 1 ? own_octets() : (own_octets() / 2 + 1) / 2 * 2;
  }
  /// Octets that a group gets from the other block at a time; the last time it may be fewer.
  LUTSMITH_HOST_DEVICE constexpr int octets_from_block() const {
    int octets = finished_octets();
    while (from_block_bytes(octets) > kMostPassageBytes) octets -= 2;
    return octets;
  }
  LUTSMITH_HOST_DEVICE constexpr int from_block_bytes(int octets) const {
    return (cluster_blocks - 1) * k_groups * octets * 8 * tile_rows * 4;
  }
  LUTSMITH_HOST_DEVICE constexpr int staged_tokens() const {  // of a warpgroup, at a time
    return staged_octets(own_octets(), warpgroups(), cluster_blocks) * 8;
  }
  LUTSMITH_HOST_DEVICE constexpr int passage_rows() const {
    const int exchange = exchange_bytes(exchanged_octets()) / kPassageRowBytes;
    const int from_block = from_block_bytes(octets_from_block()) / kPassageRowBytes;
    const int staging = warpgroups() * staged_tokens();
    const int more = exchange > from_block ? exchange : from_block;
    return more > staging ? more : staging;
  }
  LUTSMITH_HOST_DEVICE constexpr bool passage_in_gaps() const {
    return passage_rows() <= look_up_bytes / pair_table::kEntryStride;
  }

  LUTSMITH_HOST_DEVICE constexpr int activations_offset() const {
    return (look_up_bytes + kAlignment - 1) / kAlignment * kAlignment;
  }
  LUTSMITH_HOST_DEVICE constexpr int weights_offset() const {
    return activations_offset() + activation_stages * activation_stage_bytes();
  }
  LUTSMITH_HOST_DEVICE constexpr int own_passage_offset() const {
    return weights_offset() + weight_stages * weight_stage_bytes();
  }
  LUTSMITH_HOST_DEVICE constexpr int passage_offset() const {
    return passage_in_gaps() ? kGapOffset : own_passage_offset();
  }
  LUTSMITH_HOST_DEVICE constexpr int passage_stride() const {  // from one row to the next
    return passage_in_gaps() ? pair_table::kEntryStride : kPassageRowBytes;
  }
  LUTSMITH_HOST_DEVICE constexpr int barriers_offset() const {
    return own_passage_offset() + (passage_in_gaps() ? 0 : passage_rows() * kPassageRowBytes);
  }
  /// A full and an empty one for every stage, and two of a cluster.
  LUTSMITH_HOST_DEVICE constexpr int exchange_barriers_offset() const {
    return barriers_offset() + 2 * 8 * (activation_stages + weight_stages);
  }
  LUTSMITH_HOST_DEVICE constexpr int flag_offset() const {
    return exchange_barriers_offset() + (cluster_blocks == 1 ? 0 : 2 * 8);
  }
  LUTSMITH_HOST_DEVICE constexpr int bytes() const { return flag_offset() + 16; }
};

}  // namespace lutsmith::many_tokens
