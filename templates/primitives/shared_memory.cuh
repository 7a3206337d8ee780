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

}  // namespace lutsmith::device

#endif
