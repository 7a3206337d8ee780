#pragma once

#include "templates/abi/packed_layout.h"

// The dynamic shared memory of a block, for the host that requests it and the device that uses it:
//
//   | look-up engine | X stages | weight stages | exchange, then output staging | barriers | flag |
//
// The exchange has the sums that the groups along K hand to each other; after it the output passes there.

namespace lutsmith::many_tokens {

constexpr int kWarpgroupRows = 64;  // the rows of one warpgroup's product
constexpr int kStageColumns = 64;   // of X: 128 bytes of a token
constexpr int kStagesPerUnit = layout::kRecordColumns / kStageColumns;
constexpr int kAlignment = 1024;  // of an X stage: the 128-byte swizzle repeats there

/// Bytes from one token to the next where a warpgroup stages its output: 64 rows and 8 more, so that the
/// eight tokens that a store writes at a time fall on different banks.
constexpr int kStagedTokenBytes = (kWarpgroupRows + 8) * 2;
/// Octets of tokens that a warpgroup stages at a time; four warpgroups have too few registers for more.
LUTSMITH_HOST_DEVICE constexpr int staged_octets(int own_octets, int warpgroups) {
  return own_octets % 4 == 0 && warpgroups < 4 ? 4 : 2;
}

/// What the layout depends on.
struct SharedMemory {
  PackedLayout weights;
  int look_up_bytes;
  int tile_rows;
  int tile_tokens;
  int k_groups;
  int activation_stages;
  int weight_stages;

  LUTSMITH_HOST_DEVICE constexpr int warpgroups() const { return tile_rows / kWarpgroupRows * k_groups; }

  LUTSMITH_HOST_DEVICE constexpr int activation_stage_bytes() const {
    return tile_tokens * kStageColumns * 2;
  }

  /// Whether the scales of a unit stand in the plane, from where they are copied behind each panel.
  LUTSMITH_HOST_DEVICE constexpr bool plane() const {
    return !weights.scales_in_record() && !weights.per_channel();
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
  LUTSMITH_HOST_DEVICE constexpr int exchange_bytes() const {
    return (k_groups - 1) * tile_rows * tile_tokens * 4;
  }

  LUTSMITH_HOST_DEVICE constexpr int activations_offset() const {
    return (look_up_bytes + kAlignment - 1) / kAlignment * kAlignment;
  }
  LUTSMITH_HOST_DEVICE constexpr int weights_offset() const {
    return activations_offset() + activation_stages * activation_stage_bytes();
  }
  LUTSMITH_HOST_DEVICE constexpr int exchange_offset() const {
    return weights_offset() + weight_stages * weight_stage_bytes();
  }
  LUTSMITH_HOST_DEVICE constexpr int staging_bytes_of_warpgroup() const {
    return staged_octets(tile_tokens / 8 / k_groups, warpgroups()) * 8 * kStagedTokenBytes;
  }
  LUTSMITH_HOST_DEVICE constexpr int staging_offset() const { return exchange_offset(); }
  LUTSMITH_HOST_DEVICE constexpr int barriers_offset() const {
    const int staging_bytes = warpgroups() * staging_bytes_of_warpgroup();
    return exchange_offset() + (exchange_bytes() > staging_bytes ? exchange_bytes() : staging_bytes);
  }
  /// A full and an empty one for every stage.
  LUTSMITH_HOST_DEVICE constexpr int flag_offset() const {
    return barriers_offset() + 2 * 8 * (activation_stages + weight_stages);
  }
  LUTSMITH_HOST_DEVICE constexpr int bytes() const { return flag_offset() + 16; }
};

}  // namespace lutsmith::many_tokens
