#pragma once

#include "templates/abi/host_device.h"

// The shared memory of the pair table, for the host that requests it and the device that uses it.

namespace lutsmith::pair_table {

/// Bytes from entry to entry: the 32 copies of an entry take 128, and the gaps behind them may hold something
/// else; without gaps there are none.
constexpr int kEntryStride = 256;
[[maybe_unused]] constexpr int kCompactEntryStride = 128;
/// Entry of (even code, odd code): even + kOddStride * odd.
constexpr int kOddStride = 16;

LUTSMITH_HOST_DEVICE constexpr int shared_bytes(int bits, int entry_stride) {
  return (((1 << bits) - 1) * (kOddStride + 1) + 1) * entry_stride;
}

}  // namespace lutsmith::pair_table
