#pragma once

// Partial sums and outputs, 16 bytes at a time.

#ifndef LUTSMITH_EMULATOR  // which brings its own

namespace lutsmith::device {

/// Four neighbouring partial sums, which come from L2, or zeros where `present` is false; the address is a
/// multiple of 16. No branch.
__device__ __forceinline__ float4 load_partial_sums_4(const float* address, bool present) {
  float4 value;
  asm volatile(
      "{\n"
      "  .reg .pred present;\n"
      "  setp.ne.u32 present, %5, 0;\n"
      "  mov.f32 %0, 0f00000000;\n"
      "  mov.f32 %1, 0f00000000;\n"
      "  mov.f32 %2, 0f00000000;\n"
      "  mov.f32 %3, 0f00000000;\n"
      "  @present ld.global.cg.v4.f32 {%0, %1, %2, %3}, [%4];\n"
      "}"
      : "=f"(value.x), "=f"(value.y), "=f"(value.z), "=f"(value.w)
      : "l"(address), "r"(static_cast<unsigned int>(present))
      : "memory");
  return value;
}

__device__ __forceinline__ void store_partial_sums_4(float* address, float4 value) {
  asm volatile("st.global.cg.v4.f32 [%0], {%1, %2, %3, %4};"
               :
               : "l"(address), "f"(value.x), "f"(value.y), "f"(value.z), "f"(value.w)
               : "memory");
}

/// Eight neighbouring outputs of 16 bits; the address is a multiple of 16.
__device__ __forceinline__ void store_output_16(unsigned short* address, uint4 bits) {
  *reinterpret_cast<uint4*>(address) = bits;
}

}  // namespace lutsmith::device

#endif
