#pragma once

#include <array>
#include <atomic>
#include <cstddef>

#include "runtime/driver_api.h"

namespace lutsmith {

/// What the stand-in driver was asked, and how it is to answer.
struct FakeDriverState {
  int version = 13000;  ///< unless the environment's FAKE_DRIVER_VERSION has one
  cuda::Status version_status = 0;
  cuda::Status init_status = 0;  ///< unless the environment's FAKE_DRIVER_INIT has one
  int shared_bytes_per_block = 232448;
  int multiprocessors = 132;
  cuda::Status module_load_status = 0;
  int module_loads_to_refuse = 0;  ///< the first so many fail with 209, CUDA_ERROR_NO_BINARY_FOR_GPU
  cuda::Status launch_status = 0;
  int calls_to_failure = -1;  ///< of those for copies, streams, events and graphs; -1: none fails

  std::atomic<int> context_queries = 0;
  std::atomic<int> device_queries = 0;  ///< which device, and what it is
  int allocations = 0;
  int frees = 0;
  int module_loads = 0;
  int launches = 0;
  int living = 0;  ///< streams, events and graphs
  int replays = 0;
  cuda::StreamHandle capturing = nullptr;
  int max_dynamic_shared = 0;
  std::size_t allocated_bytes = 0;
  std::size_t zeroed_bytes = 0;
  cuda::LaunchConfiguration configuration{};  ///< of the last launch
  cuda::LaunchAttribute attribute{};
  cuda::ContextHandle launch_context = nullptr;
  std::array<std::byte, 1280> parameter{};  ///< the longest there is
  struct {
    const void* matrix = nullptr;
    std::array<unsigned long long, 2> sizes{};
    unsigned long long row_bytes = 0;
    std::array<unsigned int, 2> box{};
    cuda::TensorSwizzle swizzle{};
    std::size_t misaligned_by = 0;  ///< the map's address
  } tensor_map;                     ///< the last that was encoded
  cuda::Status tensor_map_status = 0;
};

}  // namespace lutsmith

extern "C" lutsmith::FakeDriverState* fake_driver_state();
// For programs in other languages, of the last launch: its parameter, which begins with LaunchArguments.
extern "C" int fake_driver_launches();
extern "C" int fake_driver_allocations();
extern "C" const void* fake_driver_parameter();
extern "C" const void* fake_driver_stream();
