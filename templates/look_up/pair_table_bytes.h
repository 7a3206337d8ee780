#pragma once

#include "templates/abi/host_device.h"

// The shared memory of the pair table, for the host that requests it and the device that uses it.

namespace lutsmith::pair_table {

constexpr int kEntryStride = 256;
/// Entry of (even code, odd code): even + kOddStride * odd.
constexpr int kOddStride = 16;

LUTSMITH_HOST_DEVICE constexpr int shared_bytes(int bits) {
  return (((1 << bits) - 1) * (kOddStride + 1) + 1) * kEntryStride;
}

}  // namespace lutsmith::pair_table
