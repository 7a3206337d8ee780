#pragma once

#include "templates/abi/packed_layout.h"
#include "templates/look_up/pair_table_bytes.h"

// The dynamic shared memory of a block, for the host that requests it and the device that uses it:
//
//   | look-up engine | reduction buffer 0 | reduction buffer 1 | arrival flag | rings of the warps |

namespace lutsmith::shared_memory {

constexpr int kFlagBytes = 128;  // one word; what follows it stays aligned to 16

/// Of the table of pairs. Few tokens leave time for the slower address, and gain from a launch whose blocks
/// share multiprocessors with those of the launch before: 16 tokens do not.
LUTSMITH_HOST_DEVICE constexpr int entry_stride(int tile_tokens) {
  return tile_tokens <= 8 ? pair_table::kCompactEntryStride : pair_table::kEntryStride;
}

/// Floats from one token to the next in a reduction buffer. Four more than the rows: the lanes of a
/// warp that write rows g of tokens 2t then fall on the banks 8t + g, all different.
LUTSMITH_HOST_DEVICE constexpr int reduction_stride(int tile_rows) { return tile_rows + 4; }

/// Bytes of one buffer: a partial tile of every warp. There are two, so that one barrier a tile is enough.
LUTSMITH_HOST_DEVICE constexpr int reduction_bytes(int tile_rows, int tile_tokens, int warps) {
  return warps * tile_tokens * reduction_stride(tile_rows) * 4;
}

/// Where the rings begin, behind the engine's `look_up_bytes` and what the end of a tile needs.
LUTSMITH_HOST_DEVICE constexpr int ring_offset(int look_up_bytes, int tile_rows, int tile_tokens, int warps) {
  return look_up_bytes + 2 * reduction_bytes(tile_rows, tile_tokens, warps) + kFlagBytes;
}

/// Bytes of one stage: the unit, and its scales where they stand in a plane (groups above 128).
LUTSMITH_HOST_DEVICE constexpr int stage_bytes(const PackedLayout& weights, int tile_rows) {
  const bool plane = !weights.scales_in_record() && !weights.scales_of_sums();
  const int records = tile_rows / layout::kRecordRows;
  return records * (weights.record_bytes() + (plane ? weights.group_bytes() : 0));
}

/// Bytes of all rings, with an 8-byte barrier for every stage.
LUTSMITH_HOST_DEVICE constexpr int ring_bytes(const PackedLayout& weights, int tile_rows, int warps,
                                              int stages) {
  return warps * stages * (stage_bytes(weights, tile_rows) + 8);
}

}  // namespace lutsmith::shared_memory
