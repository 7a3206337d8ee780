#include "runtime/loaded_kernel.h"

#include <fmt/format.h>

#include <cstdint>
#include <cstring>
#include <optional>
#include <string_view>

#include "core/result.h"
#include "templates/abi/kernel_arguments.h"

namespace lutsmith {
namespace {

constexpr std::uintptr_t kVectorAlignment = 16;
constexpr unsigned int kLongestTable = 512;  // values a launch has room for: pairs of 4-bit codes

Result<void> check_pointer(std::string_view name, const void* pointer, std::uintptr_t alignment) {
  if (pointer == nullptr) return refuse(fmt::format("{}: null; give a device pointer", name));
  if (reinterpret_cast<std::uintptr_t>(pointer) % alignment != 0) {
    return refuse(fmt::format("{}: {} is not a multiple of {} bytes", name, pointer, alignment));
  }
  return {};
}

std::vector<cuda::LaunchAttribute> launch_attributes(const LaunchRecipe& recipe) {
  std::vector<cuda::LaunchAttribute> attributes;
  if (recipe.dependent_launch) attributes.push_back(cuda::kDependentLaunch);
  return attributes;
}

}  // namespace

Result<std::shared_ptr<const LoadedKernel>> LoadedKernel::load(const CurrentDevice& device,
                                                               const KernelSpec& spec, const Choice& choice,
                                                               std::shared_ptr<const Artifact> artifact) {
  const cuda::Driver& driver = *device.context.driver;
  const int needed = artifact->launch.shared_bytes + artifact->static_shared_bytes;
  if (needed > device.shared_bytes_per_block) {
    return std::unexpected(
        Error{ErrorCode::unsupported,
              fmt::format("the kernel for {} needs {} bytes of shared memory, the GPU has {} "
                          "per block; choose a schedule with fewer stages or warps",
                          describe(spec), needed, device.shared_bytes_per_block),
              ""});
  }
  const int values = table_length(spec.format.bits, spec.format.table);
  if (values > static_cast<int>(kLongestTable)) {
    return std::unexpected(
        Error{ErrorCode::unsupported,
              fmt::format("the kernel for {} takes a table of {} values; a launch has room for {}",
                          describe(spec), values, kLongestTable),
              ""});
  }
  Result<std::size_t> packed = packed_bytes(spec.format);
  if (!packed) return failure(packed);
  Result<cuda::Module> module = cuda::Module::load(driver, device.context.handle, artifact->cubin);
  if (!module) return failure(module);
  Result<cuda::FunctionHandle> function = module->function(artifact->kernel_name);
  if (!function) return failure(function);
  if (auto allowed = driver.allow_dynamic_shared(*function, artifact->launch.shared_bytes); !allowed) {
    return failure(allowed);
  }
  std::shared_ptr<LoadedKernel> kernel(new LoadedKernel(device, spec, choice, std::move(artifact)));
  kernel->packed_bytes_ = *packed;
  kernel->module_ = std::move(*module);
  kernel->function_ = *function;
  kernel->attributes_ = launch_attributes(kernel->recipe_);
  return kernel;
}

int LoadedKernel::default_partitions(std::int64_t m) const {
  return partition(recipe_, m, multiprocessors_, wanted_partitions(m)).value_or(Partition{}).partitions;
}

/// The choice's number where there is as much work as it was made for, else 0.
int LoadedKernel::wanted_partitions(std::int64_t tokens) const {
  if (choice_.partitions == 0) return 0;
  const auto token_tiles = [this](std::int64_t m) {
    return (m + recipe_.tile_tokens - 1) / recipe_.tile_tokens;
  };
  return token_tiles(tokens) == token_tiles(spec_.m) ? choice_.partitions : 0;
}

Result<void> LoadedKernel::check_weights(const PackedWeights& weights) const {
  if (auto ok = check_pointer("weights", weights.data, kVectorAlignment); !ok) return ok;
  if (weights.format != spec_.format) {
    KernelSpec theirs = spec_;
    theirs.format = weights.format;
    return refuse(fmt::format("weights: they are packed for {}; this kernel multiplies {}", describe(theirs),
                              describe(spec_)));
  }
  if (weights.bytes != packed_bytes_) {
    return refuse(
        fmt::format("weights: {} bytes; those of {} are {}", weights.bytes, describe(spec_), packed_bytes_));
  }
  return {};
}

Result<void> LoadedKernel::check_sizes(const MatmulArguments& arguments, std::int64_t tokens) const {
  constexpr std::int64_t kMostTokens = 1 << 30;  // the kernel counts them in 32 bits and rounds up
  if (tokens < 1 || tokens > kMostTokens) {
    return refuse(fmt::format("m: {} tokens; 1..{} are allowed", tokens, kMostTokens));
  }
  const std::int64_t input = arguments.activation_stride;
  if (input != 0 && (input < spec_.format.k || input % 8 != 0)) {
    return refuse(
        fmt::format("activation_stride: {}; 0 or a multiple of 8 that is at least k = {} is allowed", input,
                    spec_.format.k));
  }
  const std::int64_t output = arguments.output_stride;
  if (output != 0 && output < spec_.format.n) {
    return refuse(fmt::format("output_stride: {}; 0 or at least n = {} is allowed", output, spec_.format.n));
  }
  if (arguments.partitions < 0) {
    return refuse(
        fmt::format("partitions: {}; 0 (the library's choice) or more are allowed", arguments.partitions));
  }
  const auto length = static_cast<std::size_t>(table_length(spec_.format.bits, spec_.format.table));
  if (arguments.table.size() != length || arguments.table.data() == nullptr) {
    return refuse(fmt::format("table: {} values; a {} table of {} bits has {}", arguments.table.size(),
                              to_string(spec_.format.table), spec_.format.bits, length));
  }
  return {};
}

Result<void> LoadedKernel::launch(const MatmulArguments& arguments, std::int64_t tokens,
                                  const WorkspaceMemory& workspace, cuda::StreamHandle stream) const {
  if (auto ok = cuda::check_not_forked(); !ok) return ok;
  if (arguments.m != 0) tokens = arguments.m;
  if (auto ok = check_weights(arguments.weights); !ok) return ok;
  if (auto ok = check_pointer("activations", arguments.activations, kVectorAlignment); !ok) return ok;
  if (auto ok = check_pointer("output", arguments.output, alignof(std::uint16_t)); !ok) return ok;
  if (auto ok = check_sizes(arguments, tokens); !ok) return ok;
  if (workspace.context() != context_) {
    return refuse("workspace: it belongs to another CUDA context than the kernel; create one per GPU");
  }
  Result<Partition> cut =
      partition(recipe_, tokens, multiprocessors_,
                arguments.partitions > 0 ? arguments.partitions : wanted_partitions(tokens));
  if (!cut) return failure(cut);
  const int capacity = workspace.capacity(recipe_.workspace_per_partition);
  if (cut->partitions > capacity) {
    return refuse(fmt::format("partitions: {} do not fit the workspace of {} bytes, which has room for {}",
                              cut->partitions, workspace.bytes(), capacity));
  }
  // What is not written is not read: the driver knows how long the kernel's own is.
  KernelParameter<kLongestTable> parameter;
  parameter.launch = {
      .weights = static_cast<const unsigned char*>(arguments.weights.data),
      .activations = static_cast<const unsigned short*>(arguments.activations),
      .output = static_cast<unsigned short*>(arguments.output),
      .partial_sums = workspace.partial_sums(),
      .arrivals = workspace.arrivals(),
      .activation_stride = arguments.activation_stride != 0 ? arguments.activation_stride : spec_.format.k,
      .output_stride = arguments.output_stride != 0 ? arguments.output_stride : spec_.format.n,
      .tokens = static_cast<int>(tokens),
      .steps_per_grain = cut->steps_per_grain,
      .grains_per_partition = cut->grains_per_partition,
      .extra_grains = cut->extra_grains,
  };
  std::memcpy(parameter.table, arguments.table.data(), arguments.table.size_bytes());
  void* parameters[] = {&parameter};

  // A thread that never used CUDA, or uses another GPU, has another context current, or none.
  cuda::ContextHandle current = nullptr;
  if (auto ok = driver_.check(driver_.api().context_get_current(&current), "cuCtxGetCurrent"); !ok) return ok;
  std::optional<cuda::ContextScope> scope;
  if (current != context_) scope.emplace(driver_, context_);
  const cuda::LaunchConfiguration configuration{
      .grid_x = static_cast<unsigned int>(cut->partitions),
      .block_x = static_cast<unsigned int>(recipe_.threads),
      .dynamic_shared_bytes = static_cast<unsigned int>(recipe_.shared_bytes),
      .stream = stream,
      .attributes = attributes_.data(),
      .attribute_count = static_cast<unsigned int>(attributes_.size()),
  };
  return driver_.launch(function_, configuration, parameters);
}

}  // namespace lutsmith
