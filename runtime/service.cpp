#include "lutsmith/service.h"

#include <fmt/format.h>

#include <exception>
#include <mutex>
#include <shared_mutex>
#include <unordered_map>
#include <utility>

#include "cache/directory.h"
#include "cache/disk_store.h"
#include "runtime/driver.h"
#include "runtime/kernel_provider.h"
#include "runtime/loaded_kernel.h"
#include "runtime/nvrtc.h"
#include "runtime/result.h"
#include "runtime/workspace_memory.h"

namespace lutsmith {
namespace {

/// Nothing the library calls is meant to throw but memory that runs out; no exception may leave it.
template <class Work>
auto guarded(Work&& work) -> decltype(work()) {
  try {
    return std::forward<Work>(work)();
  } catch (const std::exception& thrown) {
    return std::unexpected(
        Error{ErrorCode::out_of_memory, fmt::format("out of resources: {}", thrown.what()), ""});
  }
}

struct OpenedStore {
  std::unique_ptr<cache::Store> store;
  std::filesystem::path directory;
};

/// No store where none can be used, and the log is told why: a broken cache must not stop anybody.
OpenedStore open_store(const ServiceOptions& options) {
  OpenedStore opened;
  if (options.memory_only) return opened;
  const auto warn = [&](std::string_view reason) {
    if (options.log) {
      options.log(LogLevel::warning, fmt::format("kernels are kept in memory only: {}", reason));
    }
  };
  const std::filesystem::path directory =
      options.cache_directory.empty() ? cache::cache_directory(cache::DirectoryEnvironment::of_process())
                                      : options.cache_directory;
  if (directory.empty()) {
    warn("neither LUTSMITH_CACHE_DIR, XDG_CACHE_HOME nor HOME names a directory");
    return opened;
  }
  Result<std::unique_ptr<cache::DiskStore>> store = cache::DiskStore::open(directory);
  if (!store) {
    warn(store.error().message);
    return opened;
  }
  opened.directory = (*store)->root();
  opened.store = std::move(*store);
  return opened;
}

Result<Target> target_of_current_device(const cuda::Driver& driver) {
  Result<cuda::DeviceHandle> device = driver.current_device();
  if (!device) return failure(device);
  Result<int> major = driver.attribute(*device, cuda::DeviceAttribute::compute_capability_major);
  if (!major) return failure(major);
  Result<int> minor = driver.attribute(*device, cuda::DeviceAttribute::compute_capability_minor);
  if (!minor) return failure(minor);
  return Target::from_compute_capability(*major, *minor);
}

Result<const cuda::Driver*> driver_with_context() {
  Result<const cuda::Driver*> driver = cuda::Driver::open();
  if (!driver) return driver;
  if (Result<cuda::ContextHandle> context = (*driver)->ensure_context(); !context) return failure(context);
  return driver;
}

/// A request in one CUDA context.
struct LoadedKey {
  std::uint64_t context = 0;
  Request request;
  friend bool operator==(const LoadedKey&, const LoadedKey&) = default;
};

struct LoadedKeyHash {
  std::size_t operator()(const LoadedKey& key) const noexcept {
    return RequestHash()(key.request) ^ static_cast<std::size_t>(key.context);
  }
};

}  // namespace

std::string_view to_string(Origin origin) {
  switch (origin) {
    case Origin::memory:
      return "memory";
    case Origin::disk:
      return "disk";
    case Origin::compiled:
      return "compiled";
  }
  return "unknown";
}

struct Workspace::State {
  WorkspaceMemory memory;
};

Workspace::Workspace(std::unique_ptr<State> state) : state_(std::move(state)) {}
Workspace::Workspace(Workspace&&) noexcept = default;
Workspace& Workspace::operator=(Workspace&&) noexcept = default;
Workspace::~Workspace() = default;
std::size_t Workspace::bytes() const { return state_ != nullptr ? state_->memory.bytes() : 0; }

struct Kernel::State {
  KernelSpec spec;
  CompileResult compiled;
  std::shared_ptr<const LoadedKernel> loaded;
};

Kernel::Kernel(std::shared_ptr<const State> state) : state_(std::move(state)) {}
const KernelSpec& Kernel::spec() const { return state_->spec; }
const CompileResult& Kernel::compile_result() const { return state_->compiled; }
int Kernel::default_partitions(std::int64_t m) const { return state_->loaded->default_partitions(m); }

Result<void> Kernel::launch(const MatmulArguments& arguments, Workspace& workspace, Stream stream) const {
  if (workspace.state_ == nullptr) {
    return std::unexpected(
        Error{ErrorCode::invalid_argument, "workspace: it was moved from; create another", ""});
  }
  return state_->loaded->launch(arguments, workspace.state_->memory, static_cast<cuda::StreamHandle>(stream));
}

struct Service::State {
  State(std::unique_ptr<const Compiler> compiler, OpenedStore opened, const ServiceOptions& options)
      : directory(std::move(opened.directory)),
        provider(codegen_sources(), std::move(compiler), std::move(opened.store), options.log,
                 options.compile) {}

  Result<std::shared_ptr<const Kernel::State>> load(const cuda::Driver& driver, const Request& request);

  std::filesystem::path directory;
  KernelProvider provider;
  std::shared_mutex loaded_mutex;
  std::unordered_map<LoadedKey, std::shared_ptr<const Kernel::State>, LoadedKeyHash> loaded;
};

Result<std::shared_ptr<const Kernel::State>> Service::State::load(const cuda::Driver& driver,
                                                                  const Request& request) {
  Result<Target> target = target_of_current_device(driver);
  if (!target) return failure(target);
  if (request.spec.target != *target) {
    return std::unexpected(
        Error{ErrorCode::invalid_argument,
              fmt::format("target: {} cannot run on the current GPU, which is {}; ask for that",
                          request.spec.target.name(), target->name()),
              ""});
  }
  Result<CompileResult> compiled = provider.compile(request);
  if (!compiled) return failure(compiled);
  Result<std::shared_ptr<const LoadedKernel>> kernel =
      LoadedKernel::load(driver, request.spec, *compiled->artifact);
  if (!kernel && compiled->origin != Origin::compiled && kernel.error().code != ErrorCode::out_of_memory) {
    // An intact entry that the driver refuses: made anew once, then it is an error.
    provider.forget(request, compiled->artifact->key);
    compiled = provider.compile(request);
    if (!compiled) return failure(compiled);
    kernel = LoadedKernel::load(driver, request.spec, *compiled->artifact);
  }
  if (!kernel) return failure(kernel);
  return std::make_shared<const Kernel::State>(request.spec, std::move(*compiled), std::move(*kernel));
}

Service::Service(std::shared_ptr<State> state) : state_(std::move(state)) {}

Result<Service> Service::open(ServiceOptions options) {
  return guarded([&]() -> Result<Service> {
    Result<std::unique_ptr<Nvrtc>> nvrtc =
        Nvrtc::open(nvrtc_places(NvrtcEnvironment::of_process(options.nvrtc)));
    if (!nvrtc) return failure(nvrtc);
    OpenedStore store = open_store(options);
    return Service(std::make_shared<State>(std::move(*nvrtc), std::move(store), options));
  });
}

Result<CompileResult> Service::compile(const KernelSpec& spec, std::optional<Schedule> schedule) {
  return guarded([&] { return state_->provider.compile({.spec = spec, .schedule = schedule}); });
}

Result<Kernel> Service::get(const KernelSpec& spec, std::optional<Schedule> schedule) {
  return guarded([&]() -> Result<Kernel> {
    Result<const cuda::Driver*> opened = cuda::Driver::open();
    if (!opened) return failure(opened);
    const cuda::Driver& driver = **opened;
    Result<cuda::ContextHandle> context = driver.ensure_context();
    if (!context) return failure(context);
    Result<std::uint64_t> id = driver.context_id(*context);
    if (!id) return failure(id);
    LoadedKey key{.context = *id, .request = {.spec = spec, .schedule = schedule}};
    {
      const std::shared_lock lock(state_->loaded_mutex);
      const auto known = state_->loaded.find(key);
      if (known != state_->loaded.end()) return Kernel(known->second);
    }
    Result<std::shared_ptr<const Kernel::State>> loaded = state_->load(driver, key.request);
    if (!loaded) return failure(loaded);
    auto remembered = std::make_shared<Kernel::State>(**loaded);
    remembered->compiled.origin = Origin::memory;
    remembered->compiled.milliseconds = 0;
    const std::unique_lock lock(state_->loaded_mutex);
    state_->loaded.try_emplace(key, std::move(remembered));
    return Kernel(std::move(*loaded));
  });
}

Result<Workspace> Service::create_workspace() {
  return guarded([&]() -> Result<Workspace> {
    Result<const cuda::Driver*> driver = driver_with_context();
    if (!driver) return failure(driver);
    Result<cuda::DeviceHandle> device = (*driver)->current_device();
    if (!device) return failure(device);
    Result<int> multiprocessors = (*driver)->attribute(*device, cuda::DeviceAttribute::multiprocessors);
    if (!multiprocessors) return failure(multiprocessors);
    Result<WorkspaceMemory> memory =
        WorkspaceMemory::allocate(**driver, WorkspaceMemory::default_partitions(*multiprocessors));
    if (!memory) return failure(memory);
    return Workspace(std::make_unique<Workspace::State>(std::move(*memory)));
  });
}

Result<Target> Service::native_target() {
  return guarded([&]() -> Result<Target> {
    Result<const cuda::Driver*> driver = driver_with_context();
    if (!driver) return failure(driver);
    return target_of_current_device(**driver);
  });
}

const std::filesystem::path& Service::cache_directory() const { return state_->directory; }

}  // namespace lutsmith
