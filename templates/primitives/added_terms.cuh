#pragma once

// What is added to a product.

#ifndef LUTSMITH_EMULATOR  // which brings its own

namespace lutsmith::device {

/// An element of R, which the launch before may have written, and which may lie in the place of Y: read by
/// the thread that writes that element, or ahead of a barrier behind which it is written.
__device__ __forceinline__ unsigned short load_residual(const unsigned short* address) {
  unsigned short value;
  asm volatile("ld.global.u16 %0, [%1];" : "=h"(value) : "l"(address) : "memory");
  return value;
}

/// Of R in fp32.
__device__ __forceinline__ float load_residual(const float* address) {
  float value;
  asm volatile("ld.global.f32 %0, [%1];" : "=f"(value) : "l"(address) : "memory");
  return value;
}

/// Eight neighbouring elements of 16 bits; the address is a multiple of 16.
__device__ __forceinline__ uint4 load_residual_16(const unsigned short* address) {
  uint4 value;
  asm volatile("ld.global.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
               : "l"(address)
               : "memory");
  return value;
}

/// The bias of a channel, which no kernel writes.
__device__ __forceinline__ unsigned short load_bias(const unsigned short* address) {
  unsigned short value;
  asm volatile("ld.global.nc.u16 %0, [%1];" : "=h"(value) : "l"(address));
  return value;
}

}  // namespace lutsmith::device

#endif
