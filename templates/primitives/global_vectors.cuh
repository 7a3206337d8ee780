#pragma once

// Partial sums and outputs, 16 bytes at a time.

#ifndef LUTSMITH_EMULATOR  // which brings its own

namespace lutsmith::device {

/// Four neighbouring partial sums, which come from L2; the address is a multiple of 16.
__device__ __forceinline__ float4 load_partial_sums_4(const float* address) {
  float4 value;
  asm volatile("ld.global.cg.v4.f32 {%0, %1, %2, %3}, [%4];"
               : "=f"(value.x), "=f"(value.y), "=f"(value.z), "=f"(value.w)
               : "l"(address)
               : "memory");
  return value;
}

__device__ __forceinline__ void store_partial_sums_4(float* address, float4 value) {
  asm volatile("st.global.cg.v4.f32 [%0], {%1, %2, %3, %4};"
               :
               : "l"(address), "f"(value.x), "f"(value.y), "f"(value.z), "f"(value.w)
               : "memory");
}

/// Eight neighbouring outputs; the address is a multiple of 16.
__device__ __forceinline__ void store_output_16(unsigned short* address, uint4 bits) {
  *reinterpret_cast<uint4*>(address) = bits;
}

}  // namespace lutsmith::device

#endif
