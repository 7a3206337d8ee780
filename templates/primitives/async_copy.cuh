#pragma once

#include "templates/primitives/shared_memory.cuh"

// Copies from global to shared memory that a thread issues, commits and waits for (cp.async, every
// target).

#ifndef LUTSMITH_EMULATOR  // which brings its own

namespace lutsmith::device {

__device__ __forceinline__ void copy_async_16(unsigned char* to, const unsigned char* from) {
  asm volatile("cp.async.cg.shared.global.L2::256B [%0], [%1], 16;"
               :
               : "r"(shared_address(to)), "l"(from)
               : "memory");
}

/// Of activations, or zeros where `present` is false: then nothing is read.
__device__ __forceinline__ void copy_activations_async_16(unsigned char* to, const unsigned short* from,
                                                          bool present) {
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;"
               :
               : "r"(shared_address(to)), "l"(from), "r"(present ? 16 : 0)
               : "memory");
}

/// Commits this thread's copies since the last call, which may be none.
__device__ __forceinline__ void commit_copies() { asm volatile("cp.async.commit_group;" : : : "memory"); }

/// Returns when all but this thread's `pending` youngest commits have arrived.
template <int pending>
__device__ __forceinline__ void wait_copies() {
  asm volatile("cp.async.wait_group %0;" : : "n"(pending) : "memory");
}

}  // namespace lutsmith::device

#endif
