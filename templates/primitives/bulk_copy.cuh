#pragma once

#include "templates/primitives/shared_memory.cuh"

// Bulk copies from global to shared memory: one thread issues, an mbarrier counts the bytes (sm_90 and
// later).

#ifndef LUTSMITH_EMULATOR  // which brings its own

namespace lutsmith::device {

using Mbarrier = unsigned long long;

/// So many arrivals and all the bytes they expect complete a phase.
__device__ __forceinline__ void initialize_barrier(Mbarrier* barrier, int arrivals) {
  asm volatile("mbarrier.init.shared.b64 [%0], %1;"
               :
               : "r"(shared_address(barrier)), "r"(arrivals)
               : "memory");
}

/// Makes initialised barriers visible to the copy engine.
__device__ __forceinline__ void fence_barrier_initialization() {
  asm volatile("fence.proxy.async.shared::cta;" : : : "memory");
}

__device__ __forceinline__ void arrive_expecting(Mbarrier* barrier, unsigned int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared.b64 _, [%0], %1;"
               :
               : "r"(shared_address(barrier)), "r"(bytes)
               : "memory");
}

/// One arrival that expects no bytes. What the thread did before, those who wait for the phase see.
__device__ __forceinline__ void arrive(Mbarrier* barrier) {
  asm volatile("mbarrier.arrive.shared.b64 _, [%0];" : : "r"(shared_address(barrier)) : "memory");
}

/// `bytes` and both addresses are multiples of 16.
__device__ __forceinline__ void copy_bulk(unsigned char* to, const unsigned char* from, unsigned int bytes,
                                          Mbarrier* barrier) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];"
               :
               : "r"(shared_address(to)), "l"(from), "r"(bytes), "r"(shared_address(barrier))
               : "memory");
}

/// Returns when the phase of that parity has completed.
__device__ __forceinline__ void wait_barrier(Mbarrier* barrier, unsigned int parity) {
  unsigned int done = 0;
  while (!done) {
    asm volatile(
        "{\n"
        "  .reg .pred complete;\n"
        "  mbarrier.try_wait.parity.shared.b64 complete, [%1], %2;\n"
        "  selp.u32 %0, 1, 0, complete;\n"
        "}"
        : "=r"(done)
        : "r"(shared_address(barrier)), "r"(parity)
        : "memory");
  }
}

/// The same for one that will be waited for again at its use.
__device__ __forceinline__ void wait_barrier_ahead(Mbarrier* barrier, unsigned int parity) {
  wait_barrier(barrier, parity);
}

}  // namespace lutsmith::device

#endif
