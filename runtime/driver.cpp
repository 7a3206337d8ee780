#include "runtime/driver.h"

#include <fmt/format.h>
#include <pthread.h>

#include <atomic>
#include <memory>
#include <optional>

#include "core/result.h"
#include "core/shared_library.h"
#include "core/shared_object.h"
#include "runtime/driver_refusal.h"

namespace lutsmith::cuda {
namespace {

constexpr int kOldestDriver = 12000;

// The name that a driver installation puts on the loader's path, then where WSL keeps it.
constexpr std::array<std::string_view, 2> kDriverLibraries = {"libcuda.so.1",
                                                              "/usr/lib/wsl/lib/libcuda.so.1"};

std::atomic<bool> forked_child{false};

void watch_forks() {
  static const int registered = pthread_atfork(nullptr, nullptr, [] { forked_child = true; });
  static_cast<void>(registered);
}

/// `broken` is what the loader says of a library that is there; empty where there is none.
Error library_not_found(std::span<const std::string_view> libraries, const std::string& broken,
                        std::string reasons) {
  if (!broken.empty()) {
    return Error{
        ErrorCode::not_found,
        fmt::format("no CUDA driver: the loader refuses it ({}); install NVIDIA's driver anew, and look for "
                    "a wrong library in LD_LIBRARY_PATH",
                    broken),
        std::move(reasons)};
  }
  return Error{
      ErrorCode::not_found,
      fmt::format("no CUDA driver: {} could not be opened; install an NVIDIA driver, or use a machine that "
                  "has one (kernels can be compiled without it)",
                  fmt::join(libraries, ", ")),
      std::move(reasons)};
}

}  // namespace

Result<void> check_not_forked() {
  if (!forked_child.load(std::memory_order_relaxed)) [[likely]] {
    return {};
  }
  return std::unexpected(
      Error{ErrorCode::driver_error,
            "this process was forked after the CUDA driver was opened, and a driver does not survive a fork; "
            "open the service in the child instead, or start processes by spawn",
            ""});
}

Result<const Driver*> Driver::open() {
  static std::mutex mutex;
  static std::atomic<Driver*> opened{
      nullptr};  // lives as long as the process: other threads may be inside it
  if (Result<void> alive = check_not_forked(); !alive) return failure(alive);
  // Every request comes by here, so the mutex is for the first alone.
  if (const Driver* driver = opened.load(std::memory_order_acquire)) return driver;
  const std::lock_guard lock(mutex);
  if (opened == nullptr) {
    Result<Driver*> loaded = load(kDriverLibraries);
    if (!loaded) return failure(loaded);
    opened.store(*loaded, std::memory_order_release);
  }
  return opened;
}

Result<Driver*> Driver::load(std::span<const std::string_view> libraries) {
  std::optional<core::SharedLibrary> library;
  std::string reasons;
  std::string broken;
  for (const std::string_view name : libraries) {
    std::string reason;
    const Result<void> whole = check_library(std::string(name));
    if (!whole && !name.contains('/')) {  // else it is the loader's to say what is wrong with it
      reason = whole.error().message;
    } else {
      Result<core::SharedLibrary> opened = core::SharedLibrary::open(std::string(name));
      if (opened) {
        library = *opened;
        break;
      }
      reason = opened.error().message;
    }
    if (broken.empty() && !reason.contains("No such file or directory")) broken = reason;
    reasons += reason + "\n";
  }
  if (!library) return std::unexpected(library_not_found(libraries, broken, std::move(reasons)));

  DriverApi api{};
  load_driver_api(*library, api);
  if (library->missing() != nullptr) {
    int version = 0;
    if (api.driver_version == nullptr || api.driver_version(&version) != kSuccess) version = 0;
    return std::unexpected(driver_lacks(library->missing(), version, file_of(library->handle())));
  }
  std::unique_ptr<Driver> driver(new Driver(api, file_of(library->handle())));
  if (Result<void> ready = driver->initialise(); !ready) return failure(ready);
  watch_forks();
  return driver.release();
}

Result<void> Driver::initialise() {
  const auto refuse = [this](Status status, const char* call) {
    return std::unexpected(driver_refusal(status, call, library_, error(status, call)));
  };
  if (const Status status = api_.driver_version(&version_); status != kSuccess) {
    return refuse(status, "cuDriverGetVersion");
  }
  if (version_ < kOldestDriver) return std::unexpected(driver_too_old(version_, library_));
  if (const Status status = api_.init(0); status != kSuccess) return refuse(status, "cuInit");
  return {};
}

Error Driver::error(Status status, const char* call) const {
  const char* name = nullptr;
  const char* text = nullptr;
  if (api_.error_name(status, &name) != kSuccess || name == nullptr) name = "unknown error";
  if (api_.error_string(status, &text) != kSuccess || text == nullptr) text = "no description";
  ErrorCode code = ErrorCode::driver_error;
  if (status == kErrorOutOfMemory) code = ErrorCode::out_of_memory;
  if (status == kErrorNoDevice) code = ErrorCode::not_found;
  if (status == kErrorInvalidImage || status == kErrorNoBinaryForGpu || status == kErrorInvalidSource ||
      status == kErrorNotFound) {
    code = ErrorCode::corrupt_data;
  }
  return Error{code, fmt::format("{} failed with {} ({}): {}", call, name, status, text), ""};
}

Result<int> Driver::device_count() const {
  int count = 0;
  return value_after(check(api_.device_count(&count), "cuDeviceGetCount"), count);
}

Result<int> Driver::attribute(DeviceHandle device, DeviceAttribute attribute) const {
  int value = 0;
  return value_after(check(api_.device_attribute(&value, attribute, device), "cuDeviceGetAttribute"), value);
}

Result<std::string> Driver::device_name(DeviceHandle device) const {
  std::array<char, 256> name{};
  Result<void> ok = check(api_.device_name(name.data(), name.size() - 1, device), "cuDeviceGetName");
  if (!ok) return failure(ok);
  return std::string(name.data());
}

Result<std::string> Driver::current_pci_address() const {
  Result<DeviceHandle> device = current_device();
  if (!device) return failure(device);
  std::array<char, 64> address{};
  Result<void> ok =
      check(api_.device_pci_address(address.data(), address.size() - 1, *device), "cuDeviceGetPCIBusId");
  if (!ok) return failure(ok);
  return std::string(address.data());
}

Result<DeviceFacts> Driver::device(int ordinal) const {
  DeviceHandle handle = 0;
  if (Result<void> ok = check(api_.device_get(&handle, ordinal), "cuDeviceGet"); !ok) {
    return failure(ok);
  }
  DeviceFacts facts;
  Result<std::string> name = device_name(handle);
  if (!name) return failure(name);
  facts.name = *std::move(name);
  if (Result<void> ok = check(api_.device_total_memory(&facts.memory_bytes, handle), "cuDeviceTotalMem");
      !ok) {
    return failure(ok);
  }
  const std::pair<DeviceAttribute, int*> attributes[] = {
      {DeviceAttribute::compute_capability_major, &facts.major},
      {DeviceAttribute::compute_capability_minor, &facts.minor},
      {DeviceAttribute::multiprocessors, &facts.multiprocessors},
      {DeviceAttribute::l2_bytes, &facts.l2_bytes},
  };
  for (const auto& [which, value] : attributes) {
    Result<int> read = attribute(handle, which);
    if (!read) return failure(read);
    *value = *read;
  }
  return facts;
}

Result<ContextHandle> Driver::ensure_context() const {
  ContextHandle current = nullptr;
  if (Result<void> ok = check(api_.context_get_current(&current), "cuCtxGetCurrent"); !ok) {
    return failure(ok);
  }
  if (current != nullptr) return current;
  return use_device(0);
}

Result<ContextHandle> Driver::use_device(int ordinal) const {
  if (ordinal < 0 || ordinal >= kMaxDevices) {
    return std::unexpected(Error{ErrorCode::invalid_argument,
                                 fmt::format("device {} is not in 0..{}", ordinal, kMaxDevices - 1), ""});
  }
  DeviceHandle device = 0;
  if (Result<void> ok = check(api_.device_get(&device, ordinal), "cuDeviceGet"); !ok) {
    return failure(ok);
  }
  const std::lock_guard lock(contexts_mutex_);
  // Retained once and kept: a release would destroy it under the modules and buffers that live in it.
  ContextHandle& context = primary_contexts_[static_cast<std::size_t>(ordinal)];
  if (context == nullptr) {
    if (Result<void> ok = check(api_.primary_context_retain(&context, device), "cuDevicePrimaryCtxRetain");
        !ok) {
      context = nullptr;
      return failure(ok);
    }
  }
  return value_after(check(api_.context_set_current(context), "cuCtxSetCurrent"), context);
}

Result<DeviceHandle> Driver::current_device() const {
  DeviceHandle device = 0;
  return value_after(check(api_.context_device(&device), "cuCtxGetDevice"), device);
}

Result<std::uint64_t> Driver::context_id(ContextHandle context) const {
  unsigned long long id = 0;
  if (Result<void> ok = check(api_.context_id(context, &id), "cuCtxGetId"); !ok) return failure(ok);
  return id;
}

Result<void> Driver::synchronize() const { return check(api_.context_synchronize(), "cuCtxSynchronize"); }

Result<void> Driver::set(DevicePointer to, unsigned char value, std::size_t bytes) const {
  return check(api_.memset_8(to, value, bytes), "cuMemsetD8");
}

Result<void> Driver::copy_to_device(DevicePointer to, std::span<const std::byte> from) const {
  return check(api_.copy_to_device(to, from.data(), from.size()), "cuMemcpyHtoD");
}

Result<void> Driver::copy_to_host(std::span<std::byte> to, DevicePointer from) const {
  return check(api_.copy_to_host(to.data(), from, to.size()), "cuMemcpyDtoH");
}

Result<void> Driver::copy_on_device_async(DevicePointer to, DevicePointer from, std::size_t bytes,
                                          StreamHandle stream) const {
  return check(api_.copy_on_device_async(to, from, bytes, stream), "cuMemcpyDtoDAsync");
}

Result<void> Driver::allow_dynamic_shared(FunctionHandle function, int bytes) const {
  return check(api_.function_set_attribute(function, FunctionAttribute::max_dynamic_shared_bytes, bytes),
               "cuFuncSetAttribute");
}

Result<void> Driver::describe_matrix(void* map, const void* matrix, std::int64_t rows, std::int64_t columns,
                                     std::int64_t row_stride, unsigned int box_rows,
                                     unsigned int box_columns) const {
  constexpr unsigned int kDimensions = 2;
  constexpr int kNoInterleave = 0;
  constexpr int kZeros = 0;
  const unsigned long long sizes[kDimensions] = {static_cast<unsigned long long>(columns),
                                                 static_cast<unsigned long long>(rows)};
  const unsigned long long strides[kDimensions - 1] = {static_cast<unsigned long long>(row_stride) *
                                                       sizeof(std::uint16_t)};
  const unsigned int box[kDimensions] = {box_columns, box_rows};
  constexpr unsigned int kEveryElement[kDimensions] = {1, 1};
  return check(api_.tensor_map_encode(map, TensorElement::bits_16, kDimensions, matrix, sizes, strides, box,
                                      kEveryElement, kNoInterleave, TensorSwizzle::bytes_128,
                                      TensorPromotion::l2_256_bytes, kZeros),
               "cuTensorMapEncodeTiled");
}

Result<void> Driver::launch(FunctionHandle function, const LaunchConfiguration& configuration,
                            void** parameters) const {
  return check(api_.launch(&configuration, function, parameters, nullptr), "cuLaunchKernelEx");
}

ContextScope::ContextScope(const Driver& driver, ContextHandle context)
    : driver_(driver), pushed_(driver.api().context_push(context) == kSuccess) {}

ContextScope::~ContextScope() {
  ContextHandle popped = nullptr;
  if (pushed_) driver_.api().context_pop(&popped);
}

Result<Buffer> Buffer::allocate(const Driver& driver, std::size_t bytes) {
  Result<ContextHandle> context = driver.ensure_context();
  if (!context) return failure(context);
  DevicePointer address = 0;
  if (Result<void> ok = driver.check(driver.api().memory_allocate(&address, bytes), "cuMemAlloc"); !ok) {
    ok.error().message += fmt::format("; {} bytes were asked for", bytes);
    return failure(ok);
  }
  Buffer buffer;
  buffer.memory_ = {&driver, *context, address};
  buffer.bytes_ = bytes;
  return buffer;
}

Result<Buffer> Buffer::copy_of(const Driver& driver, std::span<const std::byte> bytes) {
  Result<Buffer> buffer = allocate(driver, bytes.size());
  if (!buffer) return buffer;
  if (Result<void> ok = driver.copy_to_device(buffer->address(), bytes); !ok) {
    return failure(ok);
  }
  return buffer;
}

Result<void> Graph::launch(StreamHandle stream) const {
  const Driver& driver = executable_.driver();
  return driver.check(driver.api().graph_launch(executable_.get(), stream), "cuGraphLaunch");
}

Result<Stream> Stream::create(const Driver& driver) {
  Result<ContextHandle> context = driver.ensure_context();
  if (!context) return failure(context);
  StreamHandle handle = nullptr;
  if (Result<void> ok =
          driver.check(driver.api().stream_create(&handle, kStreamNonBlocking), "cuStreamCreate");
      !ok) {
    return failure(ok);
  }
  Stream stream;
  stream.stream_ = {&driver, *context, handle};
  return stream;
}

Result<void> Stream::synchronize() const {
  const Driver& driver = stream_.driver();
  return driver.check(driver.api().stream_synchronize(stream_.get()), "cuStreamSynchronize");
}

Result<void> Stream::begin_capture() const {
  const Driver& driver = stream_.driver();
  return driver.check(driver.api().stream_begin_capture(stream_.get(), CaptureMode::thread_local_only),
                      "cuStreamBeginCapture");
}

Result<Graph> Stream::end_capture() const {
  const Driver& driver = stream_.driver();
  Result<ContextHandle> context = driver.ensure_context();
  if (!context) return failure(context);
  GraphHandle recorded = nullptr;
  if (Result<void> ok =
          driver.check(driver.api().stream_end_capture(stream_.get(), &recorded), "cuStreamEndCapture");
      !ok) {
    return failure(ok);
  }
  const Owner<GraphHandle, &DriverApi::graph_destroy> source(&driver, *context, recorded);
  Graph graph;
  if (Result<void> ok =
          driver.check(driver.api().graph_nodes(recorded, nullptr, &graph.nodes_), "cuGraphGetNodes");
      !ok) {
    return failure(ok);
  }
  ExecutableGraphHandle executable = nullptr;
  if (Result<void> ok = driver.check(driver.api().graph_instantiate(&executable, recorded, 0),
                                     "cuGraphInstantiateWithFlags");
      !ok) {
    return failure(ok);
  }
  graph.executable_ = {&driver, *context, executable};
  return graph;
}

Result<Event> Event::create(const Driver& driver) {
  Result<ContextHandle> context = driver.ensure_context();
  if (!context) return failure(context);
  EventHandle handle = nullptr;
  if (Result<void> ok = driver.check(driver.api().event_create(&handle, kEventDefault), "cuEventCreate");
      !ok) {
    return failure(ok);
  }
  Event event;
  event.event_ = {&driver, *context, handle};
  return event;
}

Result<void> Event::record(StreamHandle stream) const {
  const Driver& driver = event_.driver();
  return driver.check(driver.api().event_record(event_.get(), stream), "cuEventRecord");
}

Result<float> elapsed_milliseconds(const Event& start, const Event& end) {
  const Driver& driver = start.driver();
  float milliseconds = 0;
  return value_after(
      driver.check(driver.api().event_elapsed(&milliseconds, start.get(), end.get()), "cuEventElapsedTime"),
      milliseconds);
}

Result<Module> Module::load(const Driver& driver, std::span<const std::byte> cubin) {
  Result<ContextHandle> context = driver.ensure_context();
  if (!context) return failure(context);
  return load(driver, *context, cubin);
}

Result<Module> Module::load(const Driver& driver, ContextHandle current, std::span<const std::byte> cubin) {
  ModuleHandle handle = nullptr;
  if (Result<void> ok = driver.check(driver.api().module_load(&handle, cubin.data(), 0, nullptr, nullptr),
                                     "cuModuleLoadDataEx");
      !ok) {
    return failure(ok);
  }
  Module module;
  module.module_ = {&driver, current, handle};
  return module;
}

Result<FunctionHandle> Module::function(const std::string& name) const {
  const Driver& driver = module_.driver();
  FunctionHandle function = nullptr;
  if (Result<void> ok = driver.check(driver.api().module_function(&function, module_.get(), name.c_str()),
                                     "cuModuleGetFunction");
      !ok) {
    ok.error().message += fmt::format("; the kernel asked for is {}", name);
    return failure(ok);
  }
  return function;
}

}  // namespace lutsmith::cuda
