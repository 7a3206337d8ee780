#pragma once

#include "templates/primitives/bulk_copy.cuh"

// Thread block clusters: a few blocks that run at the same time and reach each other's shared memory (sm_90
// and later). A place in the memory of another block is named by the pointer to the same place in one's own,
// and the number of the other block in the cluster, its rank.
//
//   arrive_at_cluster(), wait_for_cluster()   once the mbarriers are initialised and fenced: only from here
//   on
//                                             may the memory of the other blocks be touched
//   store_async_16(...)                       arrives at the other block some time later; the mbarrier that
//                                             it names there counts the bytes
//   wait_barrier_of_cluster(...)              in that block: the bytes are there
//   arrive_remote(...)                        from there: they may be overwritten
//
// A block must not end before all that others do to its memory has been waited for.
//
// Nothing here releases or acquires at the scope of the cluster: each would become a fence of all memory that
// the GPU has (MEMBAR.ALL.GPU, half a microsecond). Bytes come with the mbarrier that counts them, mbarriers
// are initialised behind a fence of their own, and whoever says that a place is free has read what lay there.

#ifndef LUTSMITH_EMULATOR  // which brings its own

namespace lutsmith::device {

/// Which one of the cluster's blocks this is.
__device__ __forceinline__ int cluster_rank() {
  unsigned int rank;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return static_cast<int>(rank);
}

/// What all threads of all blocks of the cluster call, each once before its wait_for_cluster(). A thread that
/// ends counts as one that has arrived.
__device__ __forceinline__ void arrive_at_cluster() {
  // Without .aligned: lanes of a warp may come one after another.
  asm volatile(
      "fence.mbarrier_init.release.cluster;\n"
      "barrier.cluster.arrive.relaxed;"
      :
      :
      : "memory");
}

/// Waits until all threads of the cluster have arrived. The mbarriers that they have initialised can be used.
__device__ __forceinline__ void wait_for_cluster() {
  asm volatile("barrier.cluster.wait.acquire;" : : : "memory");
}

/// The address, for instructions that reach the whole cluster, of the same place in block `rank`.
__device__ __forceinline__ unsigned int cluster_address(const void* pointer, int rank) {
  unsigned int address;
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(address) : "r"(shared_address(pointer)), "r"(rank));
  return address;
}

/// One arrival, which expects no bytes, at the mbarrier that lies there in block `rank`. What the thread has
/// read before, those may overwrite who wait for the phase with wait_barrier_of_cluster().
__device__ __forceinline__ void arrive_remote(Mbarrier* barrier, int rank) {
  asm volatile("mbarrier.arrive.shared::cluster.b64 _, [%0];"
               :
               : "r"(cluster_address(barrier, rank))
               : "memory");
}

/// Stores 16 bytes in block `rank`, whose mbarrier counts them as they arrive.
__device__ __forceinline__ void store_async_16(float4* to, float4 value, Mbarrier* barrier, int rank) {
  asm volatile(
      "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v4.f32 [%0], {%1, %2, %3, %4}, [%5];"
      :
      : "r"(cluster_address(to, rank)), "f"(value.x), "f"(value.y), "f"(value.z), "f"(value.w),
        "r"(cluster_address(barrier, rank))
      : "memory");
}

/// As wait_barrier(), for a phase that other blocks contribute to: what they stored there has come.
__device__ __forceinline__ void wait_barrier_of_cluster(Mbarrier* barrier, unsigned int parity) {
  wait_barrier(barrier, parity);
}

}  // namespace lutsmith::device

#endif
