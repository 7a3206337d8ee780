#include "runtime/driver_api.h"

#include <dlfcn.h>

namespace lutsmith::cuda {
namespace {

/// Looks symbols up one after the other and remembers the first that is missing.
class SymbolLoader {
 public:
  explicit SymbolLoader(void* library) : library_(library) {}

  template <class Function>
  void load(const char* symbol, Function*& entry) {
    entry = reinterpret_cast<Function*>(dlsym(library_, symbol));
    if (entry == nullptr && missing_ == nullptr) missing_ = symbol;
  }

  const char* missing() const { return missing_; }

 private:
  void* library_;
  const char* missing_ = nullptr;
};

void load_devices(SymbolLoader& symbols, DriverApi& api) {
  symbols.load("cuInit", api.init);
  symbols.load("cuDriverGetVersion", api.driver_version);
  symbols.load("cuGetErrorName", api.error_name);
  symbols.load("cuGetErrorString", api.error_string);
  symbols.load("cuDeviceGetCount", api.device_count);
  symbols.load("cuDeviceGet", api.device_get);
  symbols.load("cuDeviceGetName", api.device_name);
  symbols.load("cuDeviceGetAttribute", api.device_attribute);
  symbols.load("cuDeviceTotalMem_v2", api.device_total_memory);
  symbols.load("cuDevicePrimaryCtxRetain", api.primary_context_retain);
  symbols.load("cuCtxGetCurrent", api.context_get_current);
  symbols.load("cuCtxSetCurrent", api.context_set_current);
  symbols.load("cuCtxPushCurrent_v2", api.context_push);
  symbols.load("cuCtxPopCurrent_v2", api.context_pop);
  symbols.load("cuCtxGetDevice", api.context_device);
  symbols.load("cuCtxGetId", api.context_id);
  symbols.load("cuCtxSynchronize", api.context_synchronize);
}

void load_memory(SymbolLoader& symbols, DriverApi& api) {
  symbols.load("cuMemAlloc_v2", api.memory_allocate);
  symbols.load("cuMemFree_v2", api.memory_free);
  symbols.load("cuMemGetInfo_v2", api.memory_info);
  symbols.load("cuMemsetD8_v2", api.memset_8);
  symbols.load("cuMemsetD8Async", api.memset_8_async);
  symbols.load("cuMemcpyHtoD_v2", api.copy_to_device);
  symbols.load("cuMemcpyDtoH_v2", api.copy_to_host);
  symbols.load("cuMemcpyHtoDAsync_v2", api.copy_to_device_async);
  symbols.load("cuMemcpyDtoHAsync_v2", api.copy_to_host_async);
  symbols.load("cuMemcpyDtoDAsync_v2", api.copy_on_device_async);
}

void load_streams(SymbolLoader& symbols, DriverApi& api) {
  symbols.load("cuStreamCreate", api.stream_create);
  symbols.load("cuStreamDestroy_v2", api.stream_destroy);
  symbols.load("cuStreamSynchronize", api.stream_synchronize);
  symbols.load("cuStreamWaitEvent", api.stream_wait_event);
  symbols.load("cuStreamBeginCapture_v2", api.stream_begin_capture);
  symbols.load("cuStreamEndCapture", api.stream_end_capture);
  symbols.load("cuEventCreate", api.event_create);
  symbols.load("cuEventDestroy_v2", api.event_destroy);
  symbols.load("cuEventRecord", api.event_record);
  symbols.load("cuEventSynchronize", api.event_synchronize);
  symbols.load("cuEventElapsedTime", api.event_elapsed);
  symbols.load("cuGraphDestroy", api.graph_destroy);
  symbols.load("cuGraphGetNodes", api.graph_nodes);
  symbols.load("cuGraphInstantiateWithFlags", api.graph_instantiate);
  symbols.load("cuGraphLaunch", api.graph_launch);
  symbols.load("cuGraphExecDestroy", api.graph_executable_destroy);
}

void load_modules(SymbolLoader& symbols, DriverApi& api) {
  symbols.load("cuModuleLoadDataEx", api.module_load);
  symbols.load("cuModuleUnload", api.module_unload);
  symbols.load("cuModuleGetFunction", api.module_function);
  symbols.load("cuFuncGetAttribute", api.function_attribute);
  symbols.load("cuFuncSetAttribute", api.function_set_attribute);
  symbols.load("cuOccupancyMaxActiveBlocksPerMultiprocessor", api.occupancy);
  symbols.load("cuLaunchKernelEx", api.launch);
}

}  // namespace

const char* load_driver_api(void* library, DriverApi& api) {
  SymbolLoader symbols(library);
  load_devices(symbols, api);
  load_memory(symbols, api);
  load_streams(symbols, api);
  load_modules(symbols, api);
  return symbols.missing();
}

}  // namespace lutsmith::cuda
