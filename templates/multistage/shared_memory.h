#pragma once

#include "templates/abi/packed_layout.h"

// The dynamic shared memory of a block, for the host that requests it and the device that uses it:
//
//   | look-up engine | X stages of each group along K | exchange, then output staging | flag | weight rings |
//
// The exchange has the sums that the groups along K hand to each other; after it the output passes there.

namespace lutsmith::multistage {

constexpr int kPieceBytes = 16;  // of X, which one lane copies and reads at a time: 8 k of a token
constexpr int kFlagBytes = 16;
constexpr int kStagedTokens = 8;  // that a warp stages at a time

/// Bytes from one token to the next where a warp stages its output: its rows and 8 more, so that the pairs of
/// rows that its lanes write for eight tokens fall on different banks.
LUTSMITH_HOST_DEVICE constexpr int staged_token_bytes(int warp_rows) { return (warp_rows + 8) * 2; }

/// What the layout depends on.
struct SharedMemory {
  int look_up_bytes;
  int tile_rows;
  int tile_tokens;
  int warp_rows;
  int k_groups;
  int stage_columns;
  int activation_stages;  ///< of each group along K

  LUTSMITH_HOST_DEVICE constexpr int warps() const { return tile_rows / warp_rows * k_groups; }

  LUTSMITH_HOST_DEVICE constexpr int activation_stage_bytes() const {
    return tile_tokens * stage_columns * 2;
  }
  LUTSMITH_HOST_DEVICE constexpr int activations_of_group_bytes() const {
    return activation_stages * activation_stage_bytes();
  }
  LUTSMITH_HOST_DEVICE constexpr int exchange_bytes() const {
    return (k_groups - 1) * tile_rows * tile_tokens * 4;
  }
  LUTSMITH_HOST_DEVICE constexpr int staging_bytes_of_warp() const {
    return kStagedTokens * staged_token_bytes(warp_rows);
  }

  /// The table's entries are of 256 bytes, so that a stage begins at a multiple of 128.
  LUTSMITH_HOST_DEVICE constexpr int activations_offset() const { return look_up_bytes; }
  LUTSMITH_HOST_DEVICE constexpr int exchange_offset() const {
    return activations_offset() + k_groups * activations_of_group_bytes();
  }
  LUTSMITH_HOST_DEVICE constexpr int staging_offset() const { return exchange_offset(); }
  LUTSMITH_HOST_DEVICE constexpr int flag_offset() const {
    const int staging_bytes = warps() * staging_bytes_of_warp();
    return exchange_offset() + (exchange_bytes() > staging_bytes ? exchange_bytes() : staging_bytes);
  }
  /// Where the weight stream has its rings, if it has any.
  LUTSMITH_HOST_DEVICE constexpr int rings_offset() const { return flag_offset() + kFlagBytes; }
};

}  // namespace lutsmith::multistage
