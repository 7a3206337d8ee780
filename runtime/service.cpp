#include "lutsmith/service.h"

#include <fmt/format.h>

#include <cstdlib>
#include <exception>
#include <mutex>
#include <set>
#include <utility>

#include "core/fork_mark.h"
#include "core/result.h"
#include "runtime/compile_policy.h"
#include "runtime/driver.h"
#include "runtime/kernel_provider.h"
#include "runtime/loaded_kernel.h"
#include "runtime/nvrtc.h"
#include "runtime/open_store.h"
#include "runtime/read_mostly_map.h"
#include "runtime/recorder.h"
#include "runtime/striped.h"
#include "runtime/workspace_memory.h"

namespace lutsmith {
namespace {

namespace fs = std::filesystem;

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

std::string environment_variable(const char* name) {
  const char* value = std::getenv(name);  // NOLINT(concurrency-mt-unsafe): read only
  return value != nullptr ? value : "";
}

fs::path record_file(const ServiceOptions& options) {
  return options.record.empty() ? fs::path(environment_variable("LUTSMITH_RECORD")) : options.record;
}

CompilePolicy compile_policy(const ServiceOptions& options) {
  if (options.compile) return *options.compile;
  const Result<CompilePolicy> named = parse_compile_policy(environment_variable("LUTSMITH_COMPILE"));
  if (!named && options.log) options.log(LogLevel::warning, named.error().message);
  return named.value_or(CompilePolicy::when_needed);
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
    case Origin::remote:
      return "remote";
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
  State(std::unique_ptr<const Compiler> compiler, OpenedStore opened, KernelProvider::Options options)
      : directory(std::move(opened.directory)),
        provider(codegen_sources(), std::move(compiler), std::move(opened.store), std::move(options)) {}

  Result<std::shared_ptr<const Kernel::State>> load(const cuda::Driver& driver, const Request& request);

  /// Errors where this is a forked copy: threads of its parent may hold its locks, and no CUDA context
  /// survives a fork.
  Result<void> check_process() const {
    if (!mark.copied()) return {};
    return std::unexpected(Error{
        ErrorCode::unsupported,
        "this service was opened before the process forked; open one in the child, or fork before opening",
        ""});
  }

  /// Whether a kernel that the driver refuses is to be compiled again: once for each, where compiling is
  /// allowed.
  bool may_make_anew(const std::string& key) {
    if (provider.policy() == CompilePolicy::never) return false;
    const std::lock_guard lock(made_anew_mutex);
    return made_anew.insert(key).second;
  }

  fs::path directory;
  KernelProvider provider;
  std::mutex made_anew_mutex;
  std::set<std::string> made_anew;  ///< keys of kernels that the driver refused
  ReadMostlyMap<LoadedKey, StripedPointer<const Kernel::State>, LoadedKeyHash> loaded;
  core::ForkMark mark;
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
  if (!kernel && kernel.error().code == ErrorCode::corrupt_data && compiled->origin != Origin::compiled &&
      may_make_anew(compiled->artifact->key)) {
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
    KernelProvider::Options provider{
        .log = options.log, .policy = compile_policy(options), .jobs = options.compile_jobs};
    if (fs::path file = record_file(options); !file.empty()) {
      Result<std::unique_ptr<Recorder>> recorder = Recorder::open(file);
      if (recorder) {
        provider.recorder = *std::move(recorder);
      } else if (options.log) {
        options.log(LogLevel::warning, recorder.error().message);
      }
    }
    OpenedStore store = open_store(options);
    return Service(std::make_shared<State>(*std::move(nvrtc), std::move(store), std::move(provider)));
  });
}

Result<CompileResult> Service::compile(const KernelSpec& spec, std::optional<Schedule> schedule) {
  return guarded([&]() -> Result<CompileResult> {
    if (Result<void> own = state_->check_process(); !own) return failure(own);
    return state_->provider.compile(request_for(spec, schedule));
  });
}

Result<Kernel> Service::get(const KernelSpec& spec, std::optional<Schedule> schedule) {
  return guarded([&]() -> Result<Kernel> {
    if (Result<void> own = state_->check_process(); !own) return failure(own);
    Result<const cuda::Driver*> opened = cuda::Driver::open();
    if (!opened) return failure(opened);
    const cuda::Driver& driver = **opened;
    Result<cuda::ContextHandle> context = driver.ensure_context();
    if (!context) return failure(context);
    Result<std::uint64_t> id = driver.context_id(*context);
    if (!id) return failure(id);
    LoadedKey key{.context = *id, .request = request_for(spec, schedule)};
    if (const auto* known = state_->loaded.find(key)) {
      state_->provider.count_memory_hit();
      return Kernel(known->get());
    }
    Result<std::shared_ptr<const Kernel::State>> loaded = state_->load(driver, key.request);
    if (!loaded) return failure(loaded);
    auto remembered = std::make_shared<Kernel::State>(**loaded);
    remembered->compiled.origin = Origin::memory;
    remembered->compiled.milliseconds = 0;
    state_->loaded.insert_or_assign(key, StripedPointer<const Kernel::State>(std::move(remembered)));
    return Kernel(std::move(*loaded));
  });
}

Result<Workspace> Service::create_workspace() {
  return guarded([&]() -> Result<Workspace> {
    if (Result<void> own = state_->check_process(); !own) return failure(own);
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

const fs::path& Service::cache_directory() const { return state_->directory; }

ServiceStatistics Service::statistics() const { return state_->provider.statistics(); }

bool Service::flush(std::chrono::milliseconds longest) {
  return state_->check_process().has_value() && state_->provider.flush(longest);
}

}  // namespace lutsmith
