#include "tuning/gpu_workbench.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>
#include <utility>

#include "core/result.h"
#include "lutsmith/version.h"
#include "runtime/cuda_version.h"

namespace lutsmith::tuning {
namespace {

/// Now, as "2026-11-26T21:30:00Z".
std::string utc_now() {
  return fmt::format("{:%FT%TZ}", std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now()));
}

}  // namespace

GpuWorkbench::GpuWorkbench(Service& service, unsigned jobs, measure::GpuSetup setup, Workspace workspace)
    : service_(service),
      jobs_(std::max(jobs, 1U)),
      setup_(std::move(setup)),
      gpu_{.name = setup_.device->facts().name,
           .multiprocessors = setup_.device->facts().multiprocessors,
           .target = setup_.target},
      workspace_(std::move(workspace)) {}

GpuWorkbench::~GpuWorkbench() = default;

Result<std::unique_ptr<GpuWorkbench>> GpuWorkbench::open(Service& service, unsigned jobs) {
  Result<measure::GpuSetup> setup = measure::GpuSetup::open();
  if (!setup) return failure(setup);
  Result<Workspace> workspace = service.create_workspace();
  if (!workspace) return failure(workspace);
  std::unique_ptr<GpuWorkbench> bench(
      new GpuWorkbench(service, jobs, *std::move(setup), *std::move(workspace)));
  if (Result<std::string> address = bench->setup_.device->driver().current_pci_address()) {
    bench->address_ = *std::move(address);
  }
  if (auto monitor = measure::open_nvml(bench->address_)) bench->monitor_ = std::move(*monitor);
  return bench;
}

void GpuWorkbench::compile_ahead(const KernelSpec& spec, std::span<const Schedule> schedules) {
  std::atomic<std::size_t> next{0};
  const auto work = [&] {
    for (std::size_t i = next++; i < schedules.size(); i = next++) {
      static_cast<void>(service_.compile(spec, schedules[i]));  // `make` tells what went wrong
    }
  };
  std::vector<std::jthread> threads;
  const std::size_t helpers = std::min<std::size_t>(jobs_, schedules.size()) - 1;
  for (std::size_t i = 0; i < helpers; ++i) threads.emplace_back(work);
  work();
}

Result<void> GpuWorkbench::begin(const KernelSpec& spec) {
  kernels_.clear();
  spec_ = spec;
  if (weights_ == nullptr || weights_->format != spec.format) {
    product_.reset();
    Result<measure::RandomWeights> weights = measure::make_random_weights(spec.format);
    if (!weights) return failure(weights);
    weights_ = std::make_unique<measure::RandomWeights>(std::move(*weights));
    Result<measure::Product> product = measure::Product::create(*setup_.device, *weights_);
    if (!product) return failure(product);
    product_.emplace(std::move(*product));
  }
  return product_->set_tokens(spec);
}

Result<Kernel> GpuWorkbench::kernel(const Schedule& schedule) {
  for (const auto& [known, kernel] : kernels_) {
    if (known == schedule) return kernel;
  }
  Result<Kernel> made = service_.get(spec_, schedule);
  if (made) kernels_.emplace_back(schedule, *made);
  return made;
}

Result<void> GpuWorkbench::make(const Schedule& schedule) {
  Result<Kernel> made = kernel(schedule);
  if (!made) return failure(made);
  if (const int spilled = made->artifact().spill_bytes; spilled > 0) {
    return std::unexpected(
        Error{ErrorCode::unsupported, fmt::format("spills {} bytes of registers", spilled), ""});
  }
  return {};
}

Result<measure::Multiply> GpuWorkbench::launcher(const Choice& choice) {
  Result<Kernel> made = kernel(choice.schedule);
  if (!made) return failure(made);
  return [this, kernel = *made, partitions = choice.partitions](MatmulArguments arguments) {
    arguments.partitions = partitions;
    return kernel.launch(arguments, workspace_, setup_.device->stream());
  };
}

Result<void> GpuWorkbench::check(const Choice& choice) {
  Result<measure::Multiply> multiply = launcher(choice);
  if (!multiply) return failure(multiply);
  Result<double> error = product_->check(*multiply);
  if (!error) return failure(error);
  return {};
}

Result<measure::Contender> GpuWorkbench::contender(const Choice& choice) {
  Result<measure::Multiply> multiply = launcher(choice);
  if (!multiply) return failure(multiply);
  return product_->contender("kernel", *multiply);
}

Result<Bounds> GpuWorkbench::bounds() {
  Result<measure::Comparison> compared =
      measure::compare(*product_, {}, setup_.dense ? &*setup_.dense : nullptr, setup_.floor);
  // A cuBLAS that runs out of memory, or is wrong, is no reason not to tune.
  if (!compared && setup_.dense) compared = measure::compare(*product_, {}, nullptr, setup_.floor);
  if (!compared) return failure(compared);
  Bounds bounds{.floor = compared->bounds.floor.plain.microseconds,
                .floor_dependent = {},
                .fp16 = compared->bounds.cublas};
  if (compared->bounds.floor.dependent) {
    bounds.floor_dependent = compared->bounds.floor.dependent->microseconds;
  }
  return bounds;
}

choices::Conditions GpuWorkbench::conditions() {
  choices::Conditions conditions{.measured = utc_now(),
                                 .driver = cuda_version_text(setup_.device->driver().version()),
                                 .compiler = service_.compiler(),
                                 .library = LUTSMITH_VERSION_STRING};
  if (monitor_ == nullptr) return conditions;
  measure::GpuState state = monitor_->state();
  conditions.clock_mhz = state.clock_mhz;
  conditions.memory_clock_mhz = state.memory_clock_mhz;
  conditions.power_watts = state.power_watts;
  conditions.temperature_celsius = state.temperature_celsius;
  conditions.throttled_by = std::move(state.throttled_by);
  conditions.power_capped = state.power_capped;
  conditions.other_processes = state.other_processes;
  return conditions;
}

}  // namespace lutsmith::tuning
