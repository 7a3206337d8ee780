#pragma once

#include "templates/abi/kernel_arguments.h"
#include "templates/primitives/bulk_copy.cuh"

// Copies of boxes of a matrix to shared memory, as a tensor map describes them (TMA, sm_90 and later).

#ifndef LUTSMITH_EMULATOR  // which brings its own

namespace lutsmith::device {

/// The first copy by this map will not wait for it.
__device__ __forceinline__ void prefetch_tensor_map(const TensorMap& map) {
  asm volatile("prefetch.tensormap [%0];" : : "l"(&map) : "memory");
}

/// The box at (column, row) of the matrix, where `barrier` counts all its bytes. What lies outside the matrix
/// comes as zeros. `to` is a multiple of 1024.
__device__ __forceinline__ void copy_tensor(unsigned char* to, const TensorMap& map, int column, int row,
                                            Mbarrier* barrier) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2, "
      "%3}], "
      "[%4];"
      :
      : "r"(shared_address(to)), "l"(&map), "r"(column), "r"(row), "r"(shared_address(barrier))
      : "memory");
}

}  // namespace lutsmith::device

#endif
