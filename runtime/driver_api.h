#pragma once

#include <cstddef>

// The part of libcuda's binary interface that lutsmith calls, as driver 12.0 and every later one
// exports it. Declared here since the library is opened at run time and no CUDA header is needed to
// build. A versioned symbol (cuMemAlloc_v2) is the one a program compiled against cuda.h would link.

struct CUstream_st;

namespace lutsmith::core {
class SharedLibrary;
}

namespace lutsmith::cuda {

using Status = int;        // CUresult
using DeviceHandle = int;  // CUdevice
using DevicePointer = unsigned long long;
using ContextHandle = struct OpaqueContext*;
using StreamHandle = CUstream_st*;
using EventHandle = struct OpaqueEvent*;
using ModuleHandle = struct OpaqueModule*;
using FunctionHandle = struct OpaqueFunction*;
using GraphHandle = struct OpaqueGraph*;
using GraphNodeHandle = struct OpaqueGraphNode*;
using ExecutableGraphHandle = struct OpaqueExecutableGraph*;

inline constexpr Status kSuccess = 0;
inline constexpr Status kErrorOutOfMemory = 2;
// What stands between a program and its first GPU.
inline constexpr Status kErrorStubLibrary = 34;
inline constexpr Status kErrorDeviceUnavailable = 46;
inline constexpr Status kErrorNoDevice = 100;
inline constexpr Status kErrorInvalidDevice = 101;
inline constexpr Status kErrorSystemNotReady = 802;
inline constexpr Status kErrorSystemDriverMismatch = 803;
inline constexpr Status kErrorCompatNotSupported = 804;
// What is wrong with an image itself, and not with the machine or its state.
inline constexpr Status kErrorInvalidImage = 200;
inline constexpr Status kErrorNoBinaryForGpu = 209;
inline constexpr Status kErrorInvalidSource = 300;
inline constexpr Status kErrorNotFound = 500;

enum class DeviceAttribute : int {
  multiprocessors = 16,
  l2_bytes = 38,
  compute_capability_major = 75,
  compute_capability_minor = 76,
  shared_bytes_per_block_optin = 97,
};

enum class FunctionAttribute : int {
  max_dynamic_shared_bytes = 8,
};

// Of a tensor map.
enum class TensorElement : int { bits_16 = 1 };
enum class TensorSwizzle : int { bytes_128 = 3 };
enum class TensorPromotion : int { l2_256_bytes = 3 };

enum class CaptureMode : int { thread_local_only = 1 };
/// `invalidated`: captures still, but what comes of it is an error.
enum class CaptureStatus : int { none = 0, active = 1, invalidated = 2 };

inline constexpr unsigned int kStreamNonBlocking = 1;
inline constexpr unsigned int kEventDefault = 0;

/// CUlaunchAttribute: an id, and a union of which lutsmith sets integers only.
struct LaunchAttribute {
  int id;
  alignas(8) union {
    unsigned char padding[64];
    int integer;
    unsigned int dimensions[3];
  } value;
};
static_assert(sizeof(LaunchAttribute) == 72 && offsetof(LaunchAttribute, value) == 8);

/// Programmatic dependent launch (programmatic stream serialization): the kernel may start before the one
/// ahead of it in the stream has ended.
inline constexpr LaunchAttribute kDependentLaunch{.id = 6, .value = {.integer = 1}};

/// So many neighbouring blocks run at the same time, as a cluster.
constexpr LaunchAttribute cluster_of(unsigned int blocks) {
  return {.id = 4, .value = {.dimensions = {blocks, 1, 1}}};
}

/// CUlaunchConfig.
struct LaunchConfiguration {
  unsigned int grid_x = 1;  ///< blocks
  unsigned int grid_y = 1;
  unsigned int grid_z = 1;
  unsigned int block_x = 1;  ///< threads
  unsigned int block_y = 1;
  unsigned int block_z = 1;
  unsigned int dynamic_shared_bytes = 0;
  StreamHandle stream = nullptr;
  const LaunchAttribute* attributes = nullptr;
  unsigned int attribute_count = 0;
};
static_assert(sizeof(LaunchConfiguration) == 56 && offsetof(LaunchConfiguration, stream) == 32);

/// Entry points of libcuda, one pointer each. The symbol is named in driver_api.cpp.
struct DriverApi {
  Status (*init)(unsigned int flags);
  Status (*driver_version)(int* version);
  Status (*error_name)(Status status, const char** name);
  Status (*error_string)(Status status, const char** text);

  Status (*device_count)(int* count);
  Status (*device_get)(DeviceHandle* device, int ordinal);
  Status (*device_name)(char* name, int length, DeviceHandle device);
  Status (*device_pci_address)(char* address, int length, DeviceHandle device);
  Status (*device_attribute)(int* value, DeviceAttribute attribute, DeviceHandle device);
  Status (*device_total_memory)(std::size_t* bytes, DeviceHandle device);

  Status (*primary_context_retain)(ContextHandle* context, DeviceHandle device);
  Status (*context_get_current)(ContextHandle* context);
  Status (*context_set_current)(ContextHandle context);
  Status (*context_push)(ContextHandle context);
  Status (*context_pop)(ContextHandle* context);
  Status (*context_device)(DeviceHandle* device);
  Status (*context_id)(ContextHandle context, unsigned long long* id);
  Status (*context_synchronize)();

  Status (*memory_allocate)(DevicePointer* pointer, std::size_t bytes);
  Status (*memory_free)(DevicePointer pointer);
  Status (*memset_8)(DevicePointer pointer, unsigned char value, std::size_t count);
  Status (*copy_to_device)(DevicePointer to, const void* from, std::size_t bytes);
  Status (*copy_to_host)(void* to, DevicePointer from, std::size_t bytes);
  Status (*copy_on_device_async)(DevicePointer to, DevicePointer from, std::size_t bytes,
                                 StreamHandle stream);

  Status (*stream_create)(StreamHandle* stream, unsigned int flags);
  Status (*stream_destroy)(StreamHandle stream);
  Status (*stream_synchronize)(StreamHandle stream);
  Status (*stream_begin_capture)(StreamHandle stream, CaptureMode mode);
  Status (*stream_end_capture)(StreamHandle stream, GraphHandle* graph);
  Status (*stream_is_capturing)(StreamHandle stream, CaptureStatus* status);

  Status (*event_create)(EventHandle* event, unsigned int flags);
  Status (*event_destroy)(EventHandle event);
  Status (*event_record)(EventHandle event, StreamHandle stream);
  Status (*event_elapsed)(float* milliseconds, EventHandle start, EventHandle end);

  Status (*graph_destroy)(GraphHandle graph);
  Status (*graph_nodes)(GraphHandle graph, GraphNodeHandle* nodes, std::size_t* count);
  Status (*graph_instantiate)(ExecutableGraphHandle* executable, GraphHandle graph, unsigned long long flags);
  Status (*graph_launch)(ExecutableGraphHandle executable, StreamHandle stream);
  Status (*graph_executable_destroy)(ExecutableGraphHandle executable);

  Status (*module_load)(ModuleHandle* module, const void* image, unsigned int option_count, int* options,
                        void** values);
  Status (*module_unload)(ModuleHandle module);
  Status (*module_function)(FunctionHandle* function, ModuleHandle module, const char* name);
  Status (*function_set_attribute)(FunctionHandle function, FunctionAttribute attribute, int value);
  /// cuTensorMapEncodeTiled. `map` is a multiple of 64; strides in bytes, of every dimension but the first.
  Status (*tensor_map_encode)(void* map, TensorElement element, unsigned int dimensions, const void* matrix,
                              const unsigned long long* sizes, const unsigned long long* strides,
                              const unsigned int* box, const unsigned int* element_strides, int interleave,
                              TensorSwizzle swizzle, TensorPromotion promotion, int fill);
  Status (*launch)(const LaunchConfiguration* configuration, FunctionHandle function, void** parameters,
                   void** extra);
};

/// Fills `api` from an open library, which then knows of a symbol that is missing.
void load_driver_api(core::SharedLibrary& library, DriverApi& api);

}  // namespace lutsmith::cuda
