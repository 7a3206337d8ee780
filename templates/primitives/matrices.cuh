#pragma once

#include "templates/primitives/shared_memory.cuh"

// Matrices of 16-bit floats from fragments to shared memory (stmatrix, sm_90 and later), and back.

#ifndef LUTSMITH_EMULATOR  // which brings its own

namespace lutsmith::device {

/// The inverse of store_matrices_transposed().
__device__ __forceinline__ void load_matrices_transposed(unsigned int (&matrices)[4],
                                                         const unsigned char* column) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(matrices[0]), "=r"(matrices[1]), "=r"(matrices[2]), "=r"(matrices[3])
               : "r"(shared_address(column))
               : "memory");
}

/// Stores four 8 x 8 matrices of 16-bit floats transposed: register i holds row lane / 4 of matrix i, columns
/// 2 * (lane % 4) and the next; lane l gives the 16-byte address of column l % 8 of matrix l / 8.
__device__ __forceinline__ void store_matrices_transposed(unsigned char* column,
                                                          const unsigned int (&matrices)[4]) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};"
               :
               : "r"(shared_address(column)), "r"(matrices[0]), "r"(matrices[1]), "r"(matrices[2]),
                 "r"(matrices[3])
               : "memory");
}

}  // namespace lutsmith::device

#endif
