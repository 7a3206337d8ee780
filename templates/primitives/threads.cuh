#pragma once

// Who a thread is, and waiting for others.

#ifndef LUTSMITH_EMULATOR  // which brings its own

namespace lutsmith::device {

__device__ __forceinline__ int thread_index() { return static_cast<int>(threadIdx.x); }
__device__ __forceinline__ int block_index() { return static_cast<int>(blockIdx.x); }

/// Waits for all threads of the block; what each of them did before, all see after.
__device__ __forceinline__ void block_barrier() { __syncthreads(); }

/// The same for `threads` of them, a multiple of 32, who name the same `barrier`: 1 to 15.
__device__ __forceinline__ void named_barrier(int barrier, int threads) {
  asm volatile("bar.sync %0, %1;" : : "r"(barrier), "r"(threads) : "memory");
}

/// The same for the 32 lanes of a warp.
__device__ __forceinline__ void warp_barrier() { __syncwarp(); }

/// Whether `value` is true in every lane of the warp. Orders no memory.
__device__ __forceinline__ bool all_lanes(bool value) { return __all_sync(0xffffffffu, value) != 0; }

/// The value of the lane whose number differs in the bits of `mask`.
__device__ __forceinline__ unsigned int exchange_lanes(unsigned int value, int mask) {
  return __shfl_xor_sync(0xffffffffu, value, mask);
}

/// The number of the warp, in a form that the compiler knows to be the same in all its lanes.
__device__ __forceinline__ int uniform_warp_index() {
  return __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / 32, 0);
}

/// Registers a thread may use from here on, at most 232 and a multiple of 8; all warps of a warpgroup say the
/// same. Claiming waits until others have given up enough (setmaxnreg, sm_90a).
template <int registers>
__device__ __forceinline__ void claim_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" : : "n"(registers));
}

template <int registers>
__device__ __forceinline__ void give_up_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" : : "n"(registers));
}

}  // namespace lutsmith::device

#endif
