#pragma once

// Shared memory. All of a kernel's accesses go through here.

#ifndef LUTSMITH_EMULATOR  // which brings its own

namespace lutsmith::device {

/// The dynamic shared memory of the block.
__device__ __forceinline__ unsigned char* dynamic_shared() {
  extern __shared__ __align__(1024) unsigned char bytes[];
  return bytes;
}

/// The address that shared-memory instructions take.
__device__ __forceinline__ unsigned int shared_address(const void* pointer) {
  return static_cast<unsigned int>(__cvta_generic_to_shared(pointer));
}

template <class T>
__device__ __forceinline__ T load_shared(const T* address) {
  return *address;
}

template <class T>
__device__ __forceinline__ void store_shared(T* address, T value) {
  *address = value;
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
