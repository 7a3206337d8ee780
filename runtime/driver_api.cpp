#include "runtime/driver_api.h"

#include "core/shared_library.h"

namespace lutsmith::cuda {
namespace {

void load_devices(core::SharedLibrary& library, DriverApi& api) {
  library.load("cuInit", api.init);
  library.load("cuDriverGetVersion", api.driver_version);
  library.load("cuGetErrorName", api.error_name);
  library.load("cuGetErrorString", api.error_string);
  library.load("cuDeviceGetCount", api.device_count);
  library.load("cuDeviceGet", api.device_get);
  library.load("cuDeviceGetName", api.device_name);
  library.load("cuDeviceGetPCIBusId", api.device_pci_address);
  library.load("cuDeviceGetAttribute", api.device_attribute);
  library.load("cuDeviceTotalMem_v2", api.device_total_memory);
  library.load("cuDevicePrimaryCtxRetain", api.primary_context_retain);
  library.load("cuCtxGetCurrent", api.context_get_current);
  library.load("cuCtxSetCurrent", api.context_set_current);
  library.load("cuCtxPushCurrent_v2", api.context_push);
  library.load("cuCtxPopCurrent_v2", api.context_pop);
  library.load("cuCtxGetDevice", api.context_device);
  library.load("cuCtxGetId", api.context_id);
  library.load("cuCtxSynchronize", api.context_synchronize);
}

void load_memory(core::SharedLibrary& library, DriverApi& api) {
  library.load("cuMemAlloc_v2", api.memory_allocate);
  library.load("cuMemFree_v2", api.memory_free);
  library.load("cuMemsetD8_v2", api.memset_8);
  library.load("cuMemcpyHtoD_v2", api.copy_to_device);
  library.load("cuMemcpyDtoH_v2", api.copy_to_host);
  library.load("cuMemcpyDtoDAsync_v2", api.copy_on_device_async);
}

void load_streams(core::SharedLibrary& library, DriverApi& api) {
  library.load("cuStreamCreate", api.stream_create);
  library.load("cuStreamDestroy_v2", api.stream_destroy);
  library.load("cuStreamSynchronize", api.stream_synchronize);
  library.load("cuStreamBeginCapture_v2", api.stream_begin_capture);
  library.load("cuStreamEndCapture", api.stream_end_capture);
  library.load("cuStreamIsCapturing", api.stream_is_capturing);
  library.load("cuEventCreate", api.event_create);
  library.load("cuEventDestroy_v2", api.event_destroy);
  library.load("cuEventRecord", api.event_record);
  library.load("cuEventElapsedTime", api.event_elapsed);
  library.load("cuGraphDestroy", api.graph_destroy);
  library.load("cuGraphGetNodes", api.graph_nodes);
  library.load("cuGraphInstantiateWithFlags", api.graph_instantiate);
  library.load("cuGraphLaunch", api.graph_launch);
  library.load("cuGraphExecDestroy", api.graph_executable_destroy);
}

void load_modules(core::SharedLibrary& library, DriverApi& api) {
  library.load("cuModuleLoadDataEx", api.module_load);
  library.load("cuModuleUnload", api.module_unload);
  library.load("cuModuleGetFunction", api.module_function);
  library.load("cuFuncSetAttribute", api.function_set_attribute);
  library.load("cuTensorMapEncodeTiled", api.tensor_map_encode);
  library.load("cuLaunchKernelEx", api.launch);
}

}  // namespace

void load_driver_api(core::SharedLibrary& library, DriverApi& api) {
  load_devices(library, api);
  load_memory(library, api);
  load_streams(library, api);
  load_modules(library, api);
}

}  // namespace lutsmith::cuda
