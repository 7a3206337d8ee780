#include "fake_driver.h"

#include <cstdlib>
#include <cstring>
#include <vector>

#define FAKE extern "C" __attribute__((visibility("default")))

using namespace lutsmith;        // NOLINT(google-build-using-namespace): the whole file is a stand-in
using namespace lutsmith::cuda;  // NOLINT(google-build-using-namespace)

namespace {

FakeDriverState state;
thread_local ContextHandle current = nullptr;
thread_local std::vector<ContextHandle> below;  // what context_push covered
char anything[8];                               // handles point here

template <class Handle>
Handle handle(int which) {
  return reinterpret_cast<Handle>(&anything[which]);
}

}  // namespace

FAKE FakeDriverState* fake_driver_state() { return &state; }
FAKE int fake_driver_launches() { return state.launches; }
FAKE int fake_driver_allocations() { return state.allocations; }
FAKE const void* fake_driver_parameter() { return state.parameter.data(); }
FAKE const void* fake_driver_stream() { return state.configuration.stream; }

FAKE Status cuInit(unsigned int) {
  const char* status = std::getenv("FAKE_DRIVER_INIT");  // NOLINT(concurrency-mt-unsafe): read only
  return status != nullptr ? std::atoi(status) : state.init_status;
}
FAKE Status cuDriverGetVersion(int* version) {
  const char* given = std::getenv("FAKE_DRIVER_VERSION");  // NOLINT(concurrency-mt-unsafe): read only
  *version = given != nullptr ? std::atoi(given) : state.version;
  return state.version_status;
}
FAKE Status cuGetErrorName(Status status, const char** name) {
  *name = status == 209 ? "CUDA_ERROR_NO_BINARY_FOR_GPU" : "CUDA_ERROR_FAKE";
  return 0;
}
FAKE Status cuGetErrorString(Status, const char** text) {
  *text = "as the test wanted";
  return 0;
}
FAKE Status cuDeviceGetCount(int* count) {
  *count = 1;
  return 0;
}
FAKE Status cuDeviceGet(DeviceHandle* device, int ordinal) {
  *device = ordinal;
  return ordinal == 0 ? 0 : 101;
}
FAKE Status cuDeviceGetName(char* name, int length, DeviceHandle) {
  std::strncpy(name, "Stand-in", static_cast<std::size_t>(length));
  return 0;
}
FAKE Status cuDeviceGetPCIBusId(char* address, int length, DeviceHandle) {
  std::strncpy(address, "0000:01:00.0", static_cast<std::size_t>(length));
  return 0;
}
FAKE Status cuDeviceGetAttribute(int* value, DeviceAttribute attribute, DeviceHandle) {
  ++state.device_queries;
  switch (attribute) {
    case DeviceAttribute::compute_capability_major:
      *value = 9;
      return 0;
    case DeviceAttribute::multiprocessors:
      *value = state.multiprocessors;
      return 0;
    case DeviceAttribute::shared_bytes_per_block_optin:
      *value = state.shared_bytes_per_block;
      return 0;
    default:
      *value = 0;
      return 0;
  }
}
FAKE Status cuDeviceTotalMem_v2(std::size_t* bytes, DeviceHandle) {
  *bytes = 1U << 30U;
  return 0;
}
FAKE Status cuDevicePrimaryCtxRetain(ContextHandle* context, DeviceHandle) {
  *context = handle<ContextHandle>(0);
  return 0;
}
FAKE Status cuCtxGetCurrent(ContextHandle* context) {
  ++state.context_queries;
  *context = current;
  return 0;
}
FAKE Status cuCtxSetCurrent(ContextHandle context) {
  current = context;
  return 0;
}
FAKE Status cuCtxPushCurrent_v2(ContextHandle context) {
  below.push_back(current);
  current = context;
  return 0;
}
FAKE Status cuCtxPopCurrent_v2(ContextHandle* context) {
  *context = current;
  current = below.back();
  below.pop_back();
  return 0;
}
FAKE Status cuCtxSynchronize() { return 0; }
FAKE Status cuCtxGetDevice(DeviceHandle* device) {
  ++state.device_queries;
  *device = 0;
  return current != nullptr ? 0 : 201;
}
FAKE Status cuCtxGetId(ContextHandle, unsigned long long* id) {
  *id = 1;
  return 0;
}
FAKE Status cuMemAlloc_v2(DevicePointer* pointer, std::size_t bytes) {
  ++state.allocations;
  state.allocated_bytes = bytes;
  *pointer = 0x10000;
  return 0;
}
FAKE Status cuMemFree_v2(DevicePointer) {
  ++state.frees;
  return 0;
}
FAKE Status cuMemsetD8_v2(DevicePointer, unsigned char, std::size_t bytes) {
  state.zeroed_bytes = bytes;
  return 0;
}
FAKE Status cuModuleLoadDataEx(ModuleHandle* module, const void*, unsigned int, int*, void**) {
  ++state.module_loads;
  *module = handle<ModuleHandle>(1);
  return state.module_loads <= state.module_loads_to_refuse ? 209 : state.module_load_status;
}
FAKE Status cuModuleUnload(ModuleHandle) { return 0; }
FAKE Status cuModuleGetFunction(FunctionHandle* function, ModuleHandle, const char*) {
  *function = handle<FunctionHandle>(2);
  return 0;
}
FAKE Status cuFuncSetAttribute(FunctionHandle, FunctionAttribute attribute, int value) {
  if (attribute == FunctionAttribute::max_dynamic_shared_bytes) state.max_dynamic_shared = value;
  return 0;
}
FAKE Status cuTensorMapEncodeTiled(void* map, TensorElement, unsigned int, const void* matrix,
                                   const unsigned long long* sizes, const unsigned long long* strides,
                                   const unsigned int* box, const unsigned int*, int, TensorSwizzle swizzle,
                                   TensorPromotion, int) {
  state.tensor_map = {.matrix = matrix,
                      .sizes = {sizes[0], sizes[1]},
                      .row_bytes = strides[0],
                      .box = {box[0], box[1]},
                      .swizzle = swizzle,
                      .misaligned_by = reinterpret_cast<std::uintptr_t>(map) % 64};
  constexpr unsigned char kMap = 0x5a;
  std::memset(map, kMap, 128);
  return state.tensor_map_status;
}
FAKE Status cuLaunchKernelEx(const LaunchConfiguration* configuration, FunctionHandle, void** parameters,
                             void**) {
  ++state.launches;
  state.configuration = *configuration;
  if (configuration->attribute_count > 0) state.attribute = configuration->attributes[0];
  state.launch_context = current;
  std::memcpy(state.parameter.data(), parameters[0], state.parameter.size());
  return state.launch_status;
}

// Streams, events and graphs are only counted. One of the calls fails where the test wants it.
namespace {

Status counted() { return state.calls_to_failure-- == 0 ? kErrorOutOfMemory : kSuccess; }

Status created() {
  const Status status = counted();
  if (status == kSuccess) ++state.living;
  return status;
}

Status destroyed() {
  --state.living;
  return kSuccess;
}

}  // namespace

FAKE Status cuMemcpyHtoD_v2(DevicePointer, const void*, std::size_t) { return counted(); }
FAKE Status cuMemcpyDtoH_v2(void*, DevicePointer, std::size_t) { return counted(); }
FAKE Status cuMemcpyDtoDAsync_v2(DevicePointer, DevicePointer, std::size_t, StreamHandle) {
  return counted();
}
FAKE Status cuStreamCreate(StreamHandle* stream, unsigned int) {
  *stream = handle<StreamHandle>(3);
  return created();
}
FAKE Status cuStreamDestroy_v2(StreamHandle) { return destroyed(); }
FAKE Status cuStreamSynchronize(StreamHandle) { return counted(); }
FAKE Status cuStreamBeginCapture_v2(StreamHandle stream, CaptureMode) {
  state.capturing = stream;
  return counted();
}
FAKE Status cuStreamIsCapturing(StreamHandle stream, CaptureStatus* status) {
  const bool capturing = stream != nullptr && stream == state.capturing;
  *status = capturing ? CaptureStatus::active : CaptureStatus::none;
  return kSuccess;
}
FAKE Status cuStreamEndCapture(StreamHandle, GraphHandle* graph) {
  state.capturing = nullptr;
  *graph = handle<GraphHandle>(4);
  return created();
}
FAKE Status cuEventCreate(EventHandle* event, unsigned int) {
  *event = handle<EventHandle>(5);
  return created();
}
FAKE Status cuEventDestroy_v2(EventHandle) { return destroyed(); }
FAKE Status cuEventRecord(EventHandle, StreamHandle) { return counted(); }
FAKE Status cuEventElapsedTime(float* milliseconds, EventHandle, EventHandle) {
  *milliseconds = 1.5F;
  return counted();
}
FAKE Status cuGraphDestroy(GraphHandle) { return destroyed(); }
FAKE Status cuGraphGetNodes(GraphHandle, GraphNodeHandle*, std::size_t* count) {
  *count = 1;
  return counted();
}
FAKE Status cuGraphInstantiateWithFlags(ExecutableGraphHandle* executable, GraphHandle, unsigned long long) {
  *executable = handle<ExecutableGraphHandle>(6);
  return created();
}
FAKE Status cuGraphLaunch(ExecutableGraphHandle, StreamHandle) {
  ++state.replays;
  return counted();
}
FAKE Status cuGraphExecDestroy(ExecutableGraphHandle) { return destroyed(); }
