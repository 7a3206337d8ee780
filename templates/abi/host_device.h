#pragma once

// Marks functions that host and device share.

#if defined(__CUDACC__)
#define LUTSMITH_HOST_DEVICE __host__ __device__ __forceinline__
#else
#define LUTSMITH_HOST_DEVICE
#endif
