#pragma once

// Functions that are right to some units of the last place, which is plenty ahead of a rounding to 16 bits.

#ifndef LUTSMITH_EMULATOR  // which brings its own

namespace lutsmith::device {

/// 2^exponent within 2^-22 of it; below the normal range 0.
__device__ __forceinline__ float power_of_two(float exponent) {
  float value;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(value) : "f"(exponent));
  return value;
}

/// 1 / value within 2^-23 of it; below the normal range 0.
__device__ __forceinline__ float reciprocal(float value) {
  float inverse;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(inverse) : "f"(value));
  return inverse;
}

}  // namespace lutsmith::device

#endif
