#pragma once

// Who a thread is, and waiting for others.

#ifndef LUTSMITH_EMULATOR  // which brings its own

namespace lutsmith::device {

__device__ __forceinline__ int thread_index() { return static_cast<int>(threadIdx.x); }
__device__ __forceinline__ int block_index() { return static_cast<int>(blockIdx.x); }

/// Waits for all threads of the block; what each of them did before, all see after.
__device__ __forceinline__ void block_barrier() { __syncthreads(); }

/// The same for the 32 lanes of a warp.
__device__ __forceinline__ void warp_barrier() { __syncwarp(); }

/// The value of the lane whose number differs in the bits of `mask`.
__device__ __forceinline__ unsigned int exchange_lanes(unsigned int value, int mask) {
  return __shfl_xor_sync(0xffffffffu, value, mask);
}
__device__ __forceinline__ float exchange_lanes(float value, int mask) {
  return __shfl_xor_sync(0xffffffffu, value, mask);
}

/// Whether `value` is true in every lane of the warp. Orders no memory.
__device__ __forceinline__ bool all_lanes(bool value) { return __all_sync(0xffffffffu, value) != 0; }

}  // namespace lutsmith::device

#endif
