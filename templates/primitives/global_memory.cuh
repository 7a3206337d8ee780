#pragma once

// Global memory, and the order of what blocks write to it.

#ifndef LUTSMITH_EMULATOR  // which brings its own

namespace lutsmith::device {

/// Reads of packed weights in global memory. Codes are read once and never written while the kernel
/// runs, so they are kept out of L1; of the scales four lanes read the same word, and neighbouring units
/// the same line. Volatile, so that a load stays where the program put it: ahead of its use.
struct StreamedWeights {
  static __device__ __forceinline__ uint4 load_16(const unsigned char* address) {
    uint4 value;
    asm volatile("ld.global.nc.L1::no_allocate.L2::256B.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
                 : "l"(address));
    return value;
  }

  static __device__ __forceinline__ uint2 load_8(const unsigned char* address) {
    uint2 value;
    asm volatile("ld.global.nc.L1::no_allocate.L2::256B.v2.u32 {%0, %1}, [%2];"
                 : "=r"(value.x), "=r"(value.y)
                 : "l"(address));
    return value;
  }

  static __device__ __forceinline__ unsigned int load_scales(const unsigned char* address) {
    unsigned int value;
    asm volatile("ld.global.nc.u32 %0, [%1];" : "=r"(value) : "l"(address));
    return value;
  }
};

/// The scale of one channel.
__device__ __forceinline__ unsigned short load_scale(const unsigned char* address) {
  unsigned short value;
  asm volatile("ld.global.nc.u16 %0, [%1];" : "=h"(value) : "l"(address));
  return value;
}

/// Activations, or zeros where `present` is false; one predicated load, no branch. They were written by
/// the launch before, so they are never read ahead of wait_for_dependency().
__device__ __forceinline__ uint4 load_activations_16(const unsigned short* address, bool present) {
  uint4 value;
  asm volatile(
      "{\n"
      "  .reg .pred present;\n"
      "  setp.ne.u32 present, %5, 0;\n"
      "  mov.u32 %0, 0;\n"
      "  mov.u32 %1, 0;\n"
      "  mov.u32 %2, 0;\n"
      "  mov.u32 %3, 0;\n"
      "  @present ld.global.v4.u32 {%0, %1, %2, %3}, [%4];\n"
      "}"
      : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
      : "l"(address), "r"(static_cast<unsigned int>(present))
      : "memory");
  return value;
}

__device__ __forceinline__ uint2 load_activations_8(const unsigned short* address, bool present) {
  uint2 value;
  asm volatile(
      "{\n"
      "  .reg .pred present;\n"
      "  setp.ne.u32 present, %3, 0;\n"
      "  mov.u32 %0, 0;\n"
      "  mov.u32 %1, 0;\n"
      "  @present ld.global.v2.u32 {%0, %1}, [%2];\n"
      "}"
      : "=r"(value.x), "=r"(value.y)
      : "l"(address), "r"(static_cast<unsigned int>(present))
      : "memory");
  return value;
}

/// Partial sums of other blocks come from L2: this block's L1 does not see them.
__device__ __forceinline__ float load_partial_sum(const float* address) {
  float value;
  asm volatile("ld.global.cg.f32 %0, [%1];" : "=f"(value) : "l"(address) : "memory");
  return value;
}

__device__ __forceinline__ void store_partial_sum(float* address, float value) {
  asm volatile("st.global.cg.f32 [%0], %1;" : : "l"(address), "f"(value) : "memory");
}

__device__ __forceinline__ void store_output(unsigned short* address, unsigned short bits) {
  *address = bits;
}

__device__ __forceinline__ void store_output(float* address, float value) { *address = value; }

/// What this thread wrote before, other blocks see before what it writes after.
__device__ __forceinline__ void fence_device() { __threadfence(); }

/// Adds one and returns the count before; orders like a lock on both sides.
__device__ __forceinline__ unsigned int count_arrival(unsigned int* counter) {
  unsigned int before;
  asm volatile("atom.global.gpu.acq_rel.add.u32 %0, [%1], 1;" : "=r"(before) : "l"(counter) : "memory");
  return before;
}

/// Sets a counter back for the next launch, which sees it.
__device__ __forceinline__ void reset_arrivals(unsigned int* counter) { *counter = 0; }

}  // namespace lutsmith::device

#endif
