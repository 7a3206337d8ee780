#pragma once

#include "templates/abi/element.h"

// 16-bit floats and the tensor-core product.

#ifndef LUTSMITH_EMULATOR  // which brings its own

namespace lutsmith::device {

template <Element element>
__device__ __forceinline__ float to_float(unsigned short bits) {
  if constexpr (element == Element::bf16) {
    return __uint_as_float(static_cast<unsigned int>(bits) << 16);
  } else {
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
    return value;
  }
}

/// Rounds to nearest even.
template <Element element>
__device__ __forceinline__ unsigned short from_float(float value) {
  unsigned short bits;
  if constexpr (element == Element::bf16) {
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(value));
  } else {
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
  }
  return bits;
}

/// D += A * B with A [16 x 16] and B [16 x 8] of 16-bit floats, D [16 x 8] fp32, in the fragments of
/// mma.sync.m16n8k16.
template <Element element>
__device__ __forceinline__ void multiply_accumulate(float (&d)[4], const unsigned int (&a)[4],
                                                    unsigned int b0, unsigned int b1) {
  if constexpr (element == Element::bf16) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  } else {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  }
}

/// a * b + c, rounded once.
__device__ __forceinline__ float multiply_add(float a, float b, float c) { return __fmaf_rn(a, b, c); }

/// The bits of a float.
__device__ __forceinline__ unsigned int bits_of(float value) { return __float_as_uint(value); }

}  // namespace lutsmith::device

#endif

namespace lutsmith::device {

template <Element element>
__device__ __forceinline__ float low_to_float(unsigned int pair) {
  return to_float<element>(static_cast<unsigned short>(pair));
}

template <Element element>
__device__ __forceinline__ float high_to_float(unsigned int pair) {
  return to_float<element>(static_cast<unsigned short>(pair >> 16));
}

}  // namespace lutsmith::device
