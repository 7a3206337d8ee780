#pragma once

#include "templates/abi/packed_layout.h"
#include "templates/look_up/pair_table_bytes.h"

// The shared memory of the look-up engine that a format has, for the host that requests it and the device
// that uses it.

namespace lutsmith {

/// With tables of rows in registers: none.
LUTSMITH_HOST_DEVICE constexpr int look_up_bytes(const PackedLayout& weights, int entry_stride) {
  return weights.row_tables ? 0 : pair_table::shared_bytes(weights.bits, entry_stride);
}

}  // namespace lutsmith
