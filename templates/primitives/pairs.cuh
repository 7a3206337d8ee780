#pragma once

#include "templates/primitives/arithmetic.cuh"

// Pairs of 16-bit floats, and words byte by byte.

#ifndef LUTSMITH_EMULATOR  // which brings its own

namespace lutsmith::device {

/// The products of two pairs of 16-bit floats, each rounded to nearest even.
template <Element element>
__device__ __forceinline__ unsigned int multiply_pairs(unsigned int a, unsigned int b) {
  unsigned int product;
  if constexpr (element == Element::bf16) {
#if __CUDA_ARCH__ >= 900
    asm("mul.rn.bf16x2 %0, %1, %2;" : "=r"(product) : "r"(a), "r"(b));
#else  // which have no product alone: adding -0 changes nothing, not even the sign of a zero
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(product) : "r"(a), "r"(b), "r"(0x80008000u));
#endif
  } else {
    asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(product) : "r"(a), "r"(b));
  }
  return product;
}

/// a * b + c of pairs of 16-bit floats, each rounded once, to nearest even.
template <Element element>
__device__ __forceinline__ unsigned int multiply_add_pairs(unsigned int a, unsigned int b, unsigned int c) {
  unsigned int sum;
  if constexpr (element == Element::bf16) {
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(sum) : "r"(a), "r"(b), "r"(c));
  } else {
    asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(sum) : "r"(a), "r"(b), "r"(c));
  }
  return sum;
}

/// Two floats, each rounded to nearest even.
template <Element element>
__device__ __forceinline__ unsigned int pair_from_floats(float low, float high) {
  unsigned int pair;
  if constexpr (element == Element::bf16) {
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  } else {
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  }
  return pair;
}

/// Byte i of the result is byte `selector >> 4 * i & 7` of the eight of low and high.
__device__ __forceinline__ unsigned int select_bytes(unsigned int low, unsigned int high,
                                                     unsigned int selector) {
  return __byte_perm(low, high, selector);
}

/// The same with a selector whose highest bits count: where bit 3 of nibble i is set, byte i of the result is
/// eight times the highest bit of the byte that bits 0 to 2 select.
__device__ __forceinline__ unsigned int permute_bytes(unsigned int low, unsigned int high,
                                                      unsigned int selector) {
  unsigned int bytes;
  asm("prmt.b32 %0, %1, %2, %3;" : "=r"(bytes) : "r"(low), "r"(high), "r"(selector));
  return bytes;
}

/// A value that the compiler knows only from here on: it keeps it in a register instead of making it anew.
__device__ __forceinline__ unsigned int kept(unsigned int value) {
  asm volatile("" : "+r"(value));
  return value;
}

}  // namespace lutsmith::device

#endif
