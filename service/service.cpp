#include "lutsmith/service.h"

#include <fmt/format.h>

#include <chrono>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "core/fork_mark.h"
#include "core/result.h"
#include "runtime/compile_jobs.h"
#include "runtime/current_device.h"
#include "runtime/driver.h"
#include "runtime/kernel_loader.h"
#include "runtime/kernel_provider.h"
#include "runtime/loaded_kernel.h"
#include "runtime/nvrtc.h"
#include "runtime/workspace_memory.h"
#include "service/open_choices.h"
#include "service/open_store.h"
#include "service/service_environment.h"
#include "tuning/campaign.h"
#include "tuning/gpu_workbench.h"

namespace lutsmith {
namespace {

namespace fs = std::filesystem;

Error out_of_resources(const std::exception& thrown) {
  return {ErrorCode::out_of_memory, fmt::format("out of resources: {}", thrown.what()), ""};
}

/// Nothing the library calls is meant to throw but memory that runs out; no exception may leave it.
template <class Work>
auto guarded(Work&& work) -> decltype(work()) {
  try {
    return std::forward<Work>(work)();
  } catch (const std::exception& thrown) {
    return std::unexpected(out_of_resources(thrown));
  }
}

Result<CurrentContext> current_context() {
  Result<const cuda::Driver*> driver = cuda::Driver::open();
  if (!driver) return failure(driver);
  return CurrentContext::ask(**driver);
}

template <class Value>
Result<void> without_value(const Result<Value>& result) {
  if (!result) return std::unexpected(result.error());
  return {};
}

/// Measures what neither the machine nor the server nor the library knows of its GPU. How many specs that
/// were.
Result<std::size_t> tune_unknown(Service& service, const OpenedChoices& choices,
                                 std::span<const KernelSpec> specs,
                                 const std::function<void(const KernelSpec&, const Error&)>& failed) {
  Result<std::unique_ptr<tuning::GpuWorkbench>> bench =
      tuning::GpuWorkbench::open(service, compile_jobs(compile_resources()));
  if (!bench) return failure(bench);
  std::vector<KernelSpec> here(specs.begin(), specs.end());
  for (KernelSpec& spec : here) spec.target = (*bench)->gpu().target;
  const choices::Database& database = *choices.database;
  if (choices.shared != nullptr) {
    choices.shared->exchange(database, (*bench)->gpu(), tuning::missing_specs(here, choices::Document({})));
  }
  const std::vector<KernelSpec> unknown = tuning::missing_specs(here, database.read((*bench)->gpu(), {}));
  Result<tuning::CampaignSummary> done =
      tuning::tune_missing(**bench, (*bench)->address(), database, unknown, {.shared = choices.shared.get()},
                           [&failed](const tuning::CampaignStep& step) {
                             if (step.error != nullptr) failed(*step.spec, *step.error);
                           });
  if (!done) return failure(done);
  return done->tuned;
}

/// Nothing without a GPU, or with one that is too old or too new.
std::optional<choices::Gpu> ask_first_gpu() {
  const Result<const cuda::Driver*> driver = cuda::Driver::open();
  if (!driver) return std::nullopt;
  Result<cuda::DeviceFacts> facts = (*driver)->device(0);
  if (!facts) return std::nullopt;
  const Result<Target> target = Target::from_compute_capability(facts->major, facts->minor);
  if (!target) return std::nullopt;
  return choices::Gpu{
      .name = std::move(facts->name), .multiprocessors = facts->multiprocessors, .target = *target};
}

Error no_native_target(const Error& reason) {
  return {
      reason.code,
      fmt::format("target: none is named, and there is no GPU to take it from; name one, such as sm_90a ({})",
                  reason.message),
      reason.context};
}

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

const KernelSpec& Kernel::spec() const { return loaded_->spec(); }
const Choice& Kernel::choice() const { return loaded_->choice(); }
const Artifact& Kernel::artifact() const { return loaded_->artifact(); }
int Kernel::default_partitions(std::int64_t m) const { return loaded_->default_partitions(m); }

Result<void> Kernel::launch(const MatmulArguments& arguments, Workspace& workspace,
                            CUstream_st* stream) const {
  if (workspace.state_ == nullptr) {
    return std::unexpected(
        Error{ErrorCode::invalid_argument, "workspace: it was moved from; create another", ""});
  }
  return loaded_->launch(arguments, tokens_, workspace.state_->memory, stream);
}

struct Service::State {
  State(std::unique_ptr<const Compiler> compiler, OpenedStore opened, OpenedChoices opened_choices,
        KernelProvider::Options options)
      : directory(std::move(opened.directory)),
        choices(std::move(opened_choices)),
        provider(codegen_sources(choices.source), std::move(compiler), std::move(opened.store),
                 std::move(options)) {}

  /// Errors where this is a forked copy: threads of its parent may hold its locks, and no CUDA context
  /// survives a fork.
  Result<void> check_process() const {
    if (!mark.copied()) return {};
    return std::unexpected(Error{
        ErrorCode::unsupported,
        "this service was opened before the process forked; open one in the child, or fork before opening",
        ""});
  }

  Result<const CurrentDevice*> current_device() {
    if (Result<void> own = check_process(); !own) return failure(own);
    Result<CurrentContext> context = current_context();
    if (!context) return failure(context);
    return loader.device(*context);
  }

  /// The GPU whose tuned choices count for a target that was named; null: none.
  const choices::Gpu* gpu_of(const Target& target) {
    if (choices.gpu) return choices.gpu->target == target ? &*choices.gpu : nullptr;
    std::call_once(first_gpu_asked, [this] { first_gpu = ask_first_gpu(); });
    return first_gpu && first_gpu->target == target ? &*first_gpu : nullptr;
  }

  fs::path directory;
  OpenedChoices choices;
  std::once_flag first_gpu_asked;
  std::optional<choices::Gpu> first_gpu;  ///< of the machine; without a context, which would cost its memory
  KernelProvider provider;
  KernelLoader loader{provider};
  core::ForkMark mark;
};

Service::Service(std::shared_ptr<State> state) : state_(std::move(state)) {}

Result<Service> Service::open(ServiceOptions options) {
  return guarded([&]() -> Result<Service> {
    Result<std::unique_ptr<Nvrtc>> nvrtc =
        Nvrtc::open(nvrtc_places(NvrtcEnvironment::of_process(options.nvrtc)));
    if (!nvrtc) return failure(nvrtc);
    KernelProvider::Options provider{.log = options.log,
                                     .policy = chosen_compile_policy(options),
                                     .jobs = options.compile_jobs,
                                     .recorder = open_recorder(options)};
    OpenedStore store = open_store(options);
    Result<OpenedChoices> choices = open_choices(chosen_tuning(options), store, options.log);
    if (!choices) return failure(choices);
    return Service(std::make_shared<State>(*std::move(nvrtc), std::move(store), *std::move(choices),
                                           std::move(provider)));
  });
}

Result<CompileResult> Service::compile(const KernelSpec& spec, std::optional<Choice> choice) {
  return guarded([&]() -> Result<CompileResult> {
    if (Result<void> own = state_->check_process(); !own) return failure(own);
    Request request = request_for(spec, choice);
    if (!spec.target.is_native()) return state_->provider.compile(request, state_->gpu_of(spec.target));
    Result<const CurrentDevice*> device = state_->current_device();
    if (!device) return std::unexpected(no_native_target(device.error()));
    request.spec.target = (*device)->target;
    return state_->provider.compile(request, &(*device)->gpu);
  });
}

// The way of a warm request is written out, step by step, since calls and results of results made a quarter
// of its instructions.
Result<Kernel> Service::get(const KernelSpec& spec, std::optional<Choice> choice) {
  try {
    if (state_->mark.copied()) return std::unexpected(state_->check_process().error());
    Result<const cuda::Driver*> driver = cuda::Driver::open();
    if (!driver) return failure(driver);
    Result<cuda::ContextHandle> handle = (*driver)->ensure_context();
    if (!handle) return failure(handle);
    Result<std::uint64_t> id = (*driver)->context_id(*handle);
    if (!id) return failure(id);
    const CurrentContext context{.driver = *driver, .handle = *handle, .id = *id};
    Request request = request_for(spec, choice);
    if (spec.target.is_native()) {
      Result<const CurrentDevice*> device = state_->loader.device(context);
      if (!device) return failure(device);
      request.spec.target = (*device)->target;
    }
    if (const SharedKernel* known = state_->loader.known(context, request)) {
      state_->provider.count_memory_hit();
      return Kernel(known->get(), spec.m);
    }
    Result<const SharedKernel*> loaded = state_->loader.get(context, request);
    if (!loaded) return failure(loaded);
    return Kernel((*loaded)->get(), spec.m);
  } catch (const std::exception& thrown) {
    return std::unexpected(out_of_resources(thrown));
  }
}

Result<PrepareSummary> Service::prepare(std::span<const KernelSpec> specs) {
  return guarded([&]() -> Result<PrepareSummary> {
    if (Result<void> own = state_->check_process(); !own) return failure(own);
    const auto start = std::chrono::steady_clock::now();
    PrepareSummary summary;
    std::optional<Error> first_error;
    const auto failed = [&first_error](const KernelSpec& spec, const Error& error) {
      if (!first_error) first_error = {error.code, describe(spec) + ": " + error.message, error.context};
    };
    const bool has_gpu = state_->current_device().has_value();
    if (has_gpu && state_->choices.tunes) {
      Result<std::size_t> tuned = tune_unknown(*this, state_->choices, specs, failed);
      if (!tuned) return failure(tuned);
      summary.tuned = *tuned;
      state_->choices.source->refresh();
    }
    const std::uint64_t compiles = statistics().compiles;
    for (const KernelSpec& spec : specs) {
      const Result<void> ready = has_gpu ? without_value(get(spec)) : without_value(compile(spec));
      if (ready) ++summary.kernels;
      if (!ready) failed(spec, ready.error());
    }
    if (first_error) return std::unexpected(*first_error);
    summary.compiled = statistics().compiles - compiles;
    summary.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return summary;
  });
}

Result<Workspace> Service::create_workspace() {
  return guarded([&]() -> Result<Workspace> {
    Result<const CurrentDevice*> device = state_->current_device();
    if (!device) return failure(device);
    Result<WorkspaceMemory> memory =
        WorkspaceMemory::allocate(*(*device)->context.driver, workspace_size((*device)->multiprocessors));
    if (!memory) return failure(memory);
    return Workspace(std::make_unique<Workspace::State>(std::move(*memory)));
  });
}

Result<std::size_t> Service::workspace_bytes() {
  return guarded([&]() -> Result<std::size_t> {
    Result<const CurrentDevice*> device = state_->current_device();
    if (!device) return failure(device);
    return WorkspaceMemory::bytes_for(workspace_size((*device)->multiprocessors));
  });
}

Result<Workspace> Service::workspace_over(void* memory, std::size_t bytes) {
  return guarded([&]() -> Result<Workspace> {
    Result<const CurrentDevice*> device = state_->current_device();
    if (!device) return failure(device);
    Result<WorkspaceMemory> workspace = WorkspaceMemory::over((*device)->context.handle, memory, bytes,
                                                              workspace_size((*device)->multiprocessors));
    if (!workspace) return failure(workspace);
    return Workspace(std::make_unique<Workspace::State>(std::move(*workspace)));
  });
}

Result<Target> Service::native_target() {
  return guarded([&]() -> Result<Target> {
    Result<const CurrentDevice*> device = state_->current_device();
    if (!device) return failure(device);
    return (*device)->target;
  });
}

const fs::path& Service::cache_directory() const { return state_->directory; }

const std::string& Service::compiler() const { return state_->provider.compiler(); }

ServiceStatistics Service::statistics() const { return state_->provider.statistics(); }

bool Service::flush(std::chrono::milliseconds longest) {
  return state_->check_process().has_value() && state_->provider.flush(longest);
}

}  // namespace lutsmith
