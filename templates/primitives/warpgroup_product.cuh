#pragma once

#include "templates/abi/element.h"
#include "templates/primitives/shared_memory.cuh"

// The asynchronous tensor-core product of a warpgroup: four warps, of which the first has a multiple of 4 as
// its number (wgmma, sm_90a).
//
//   fence_registers()      what was written to the registers of A and D before, products read
//   multiply_async(...)    starts; from here on nobody may touch D, nor change A or B
//   commit_products()      closes a group of products
//   wait_products<n>()     all but the youngest n groups are done: their registers and their B are free again
//
// All 128 threads make the same calls.

#ifndef LUTSMITH_EMULATOR  // which brings its own

namespace lutsmith::device {

/// Describes B to multiply_async(): n tokens by 64 k of 16-bit floats, a row of 128 bytes for each token, the
/// 16-byte pieces of row r at r % 8 XOR their number (the 128-byte swizzle, in which copy_tensor() writes).
/// `shared` is a multiple of 1024. Add 2 for each 16 k from there (PTX ISA, "Matrix Descriptor").
__device__ __forceinline__ unsigned long long describe_operand(const unsigned char* shared) {
  constexpr unsigned long long kSwizzle128 = 1ull << 62;
  constexpr unsigned long long kNextOctet = 1024 >> 4;  // bytes from 8 tokens to the next 8, in units of 16
  constexpr unsigned long long kUnused = 1;
  return kSwizzle128 | kNextOctet << 32 | kUnused << 16 | shared_address(shared) >> 4;
}

__device__ __forceinline__ void fence_registers() {
  asm volatile("wgmma.fence.sync.aligned;" : : : "memory");
}

__device__ __forceinline__ void commit_products() {
  asm volatile("wgmma.commit_group.sync.aligned;" : : : "memory");
}

template <int pending>
__device__ __forceinline__ void wait_products() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" : : "n"(pending) : "memory");
}

// The operands of D, eight by eight: as numbers in the text, and as constraints.
#define LUTSMITH_D0 "%0, %1, %2, %3, %4, %5, %6, %7"
#define LUTSMITH_D8 "%8, %9, %10, %11, %12, %13, %14, %15"
#define LUTSMITH_D16 "%16, %17, %18, %19, %20, %21, %22, %23"
#define LUTSMITH_D24 "%24, %25, %26, %27, %28, %29, %30, %31"
#define LUTSMITH_D32 "%32, %33, %34, %35, %36, %37, %38, %39"
#define LUTSMITH_D40 "%40, %41, %42, %43, %44, %45, %46, %47"
#define LUTSMITH_D48 "%48, %49, %50, %51, %52, %53, %54, %55"
#define LUTSMITH_D56 "%56, %57, %58, %59, %60, %61, %62, %63"
#define LUTSMITH_D64 "%64, %65, %66, %67, %68, %69, %70, %71"
#define LUTSMITH_D72 "%72, %73, %74, %75, %76, %77, %78, %79"
#define LUTSMITH_D80 "%80, %81, %82, %83, %84, %85, %86, %87"
#define LUTSMITH_D88 "%88, %89, %90, %91, %92, %93, %94, %95"
#define LUTSMITH_D96 "%96, %97, %98, %99, %100, %101, %102, %103"
#define LUTSMITH_D104 "%104, %105, %106, %107, %108, %109, %110, %111"
#define LUTSMITH_D112 "%112, %113, %114, %115, %116, %117, %118, %119"
#define LUTSMITH_D120 "%120, %121, %122, %123, %124, %125, %126, %127"
#define LUTSMITH_D(i)                                                                         \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), \
      "+f"(d[i + 6]), "+f"(d[i + 7])

// 16, 32, 64 and 128 operands, and the odd ones between them.
#define LUTSMITH_NUMBERS_8 LUTSMITH_D0
#define LUTSMITH_NUMBERS_16 LUTSMITH_NUMBERS_8 ", " LUTSMITH_D8
#define LUTSMITH_NUMBERS_24 LUTSMITH_NUMBERS_16 ", " LUTSMITH_D16
#define LUTSMITH_NUMBERS_32 LUTSMITH_NUMBERS_24 ", " LUTSMITH_D24
#define LUTSMITH_NUMBERS_48 LUTSMITH_NUMBERS_32 ", " LUTSMITH_D32 ", " LUTSMITH_D40
#define LUTSMITH_NUMBERS_64 LUTSMITH_NUMBERS_48 ", " LUTSMITH_D48 ", " LUTSMITH_D56
#define LUTSMITH_NUMBERS_80 LUTSMITH_NUMBERS_64 ", " LUTSMITH_D64 ", " LUTSMITH_D72
#define LUTSMITH_NUMBERS_96 LUTSMITH_NUMBERS_80 ", " LUTSMITH_D80 ", " LUTSMITH_D88
#define LUTSMITH_NUMBERS_128 \
  LUTSMITH_NUMBERS_96 ", " LUTSMITH_D96 ", " LUTSMITH_D104 ", " LUTSMITH_D112 ", " LUTSMITH_D120

#define LUTSMITH_OPERANDS_8 LUTSMITH_D(0)
#define LUTSMITH_OPERANDS_16 LUTSMITH_OPERANDS_8, LUTSMITH_D(8)
#define LUTSMITH_OPERANDS_24 LUTSMITH_OPERANDS_16, LUTSMITH_D(16)
#define LUTSMITH_OPERANDS_32 LUTSMITH_OPERANDS_24, LUTSMITH_D(24)
#define LUTSMITH_OPERANDS_48 LUTSMITH_OPERANDS_32, LUTSMITH_D(32), LUTSMITH_D(40)
#define LUTSMITH_OPERANDS_64 LUTSMITH_OPERANDS_48, LUTSMITH_D(48), LUTSMITH_D(56)
#define LUTSMITH_OPERANDS_80 LUTSMITH_OPERANDS_64, LUTSMITH_D(64), LUTSMITH_D(72)
#define LUTSMITH_OPERANDS_96 LUTSMITH_OPERANDS_80, LUTSMITH_D(80), LUTSMITH_D(88)
#define LUTSMITH_OPERANDS_128 \
  LUTSMITH_OPERANDS_96, LUTSMITH_D(96), LUTSMITH_D(104), LUTSMITH_D(112), LUTSMITH_D(120)

// n tokens have n / 2 sums a thread; those of D come first, so that A, B and the predicate are numbers
// `half` to `half` + 5. They are given, since a macro cannot add.
#define LUTSMITH_PRODUCT(n, half, type, a0, a1, a2, a3, b, keep)                                     \
  asm volatile(                                                                                      \
      "{\n"                                                                                          \
      "  .reg .pred keep;\n"                                                                         \
      "  setp.ne.u32 keep, %" #keep                                                                  \
      ", 0;\n"                                                                                       \
      "  wgmma.mma_async.sync.aligned.m64n" #n "k16.f32." type "." type " {" LUTSMITH_NUMBERS_##half \
      "}, {%" #a0 ", %" #a1 ", %" #a2 ", %" #a3 "}, %" #b                                            \
      ", keep, 1, 1, 0;\n"                                                                           \
      "}"                                                                                            \
      : LUTSMITH_OPERANDS_##half                                                                     \
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b_described),                                \
        "r"(static_cast<unsigned int>(accumulate)))

#define LUTSMITH_WIDTH(n, half, a0, a1, a2, a3, b, keep)                                            \
  template <Element element>                                                                        \
  __device__ __forceinline__ void multiply_async(float(&d)[half], const unsigned int(&a)[4],        \
                                                 unsigned long long b_described, bool accumulate) { \
    if constexpr (element == Element::bf16) {                                                       \
      LUTSMITH_PRODUCT(n, half, "bf16", a0, a1, a2, a3, b, keep);                                   \
    } else {                                                                                        \
      LUTSMITH_PRODUCT(n, half, "f16", a0, a1, a2, a3, b, keep);                                    \
    }                                                                                               \
  }

// D = A * B, or D += A * B where `accumulate` says so, of n = 16 .. 256 tokens, which the size of D tells: A
// [64 x 16], of which each warp holds 16 rows in the fragments of mma.m16n8k16, B [16 x n] in shared memory,
// D [64 x n] fp32: d[4 * octet + c] is c of that fragment for tokens 8 * octet to 8 * octet + 7.
LUTSMITH_WIDTH(16, 8, 8, 9, 10, 11, 12, 13)
LUTSMITH_WIDTH(32, 16, 16, 17, 18, 19, 20, 21)
LUTSMITH_WIDTH(48, 24, 24, 25, 26, 27, 28, 29)
LUTSMITH_WIDTH(64, 32, 32, 33, 34, 35, 36, 37)
LUTSMITH_WIDTH(96, 48, 48, 49, 50, 51, 52, 53)
LUTSMITH_WIDTH(128, 64, 64, 65, 66, 67, 68, 69)
LUTSMITH_WIDTH(160, 80, 80, 81, 82, 83, 84, 85)
LUTSMITH_WIDTH(192, 96, 96, 97, 98, 99, 100, 101)
LUTSMITH_WIDTH(256, 128, 128, 129, 130, 131, 132, 133)

}  // namespace lutsmith::device

#endif
