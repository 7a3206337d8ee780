#pragma once

// Parts of a block that work by themselves: their barriers, registers and lanes.

#ifndef LUTSMITH_EMULATOR  // which brings its own

namespace lutsmith::device {

/// The blocks of the launch.
__device__ __forceinline__ int block_count() { return static_cast<int>(gridDim.x); }

/// Waits for `threads` threads of the block, a multiple of 32, who name the same `barrier`: 1 to 15. What
/// each of them did before, all of them see after.
__device__ __forceinline__ void named_barrier(int barrier, int threads) {
  asm volatile("bar.sync %0, %1;" : : "r"(barrier), "r"(threads) : "memory");
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
