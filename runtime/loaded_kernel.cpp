#include "runtime/loaded_kernel.h"

#include <fmt/format.h>

#include <optional>

#include "core/matmul_arguments.h"
#include "core/result.h"
#include "templates/abi/kernel_arguments.h"

namespace lutsmith {
namespace {

constexpr unsigned int kLongestTable = 512;  // values a launch has room for: pairs of 4-bit codes
// And for the tables of segments.
static_assert(form_bytes(16, true) <= form_bytes(kLongestTable, false));

std::vector<cuda::LaunchAttribute> launch_attributes(const LaunchRecipe& recipe) {
  std::vector<cuda::LaunchAttribute> attributes;
  if (recipe.dependent_launch) attributes.push_back(cuda::kDependentLaunch);
  if (recipe.cluster_blocks > 1) {
    attributes.push_back(cuda::cluster_of(static_cast<unsigned int>(recipe.cluster_blocks)));
  }
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
  const int values = launched_table_length(spec.format);
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

Result<void> LoadedKernel::launch(const MatmulArguments& arguments, std::int64_t tokens,
                                  const WorkspaceMemory& workspace, cuda::StreamHandle stream) const {
  if (auto ok = cuda::check_not_forked(); !ok) return ok;
  const MatmulArguments completed = core::completed(arguments, spec_, tokens);
  if (auto ok = core::check(completed, spec_, packed_bytes_); !ok) return ok;
  if (workspace.context() != context_) {
    return refuse("workspace: it belongs to another CUDA context than the kernel; create one per GPU");
  }
  Result<Partition> cut =
      partition(recipe_, completed.m, multiprocessors_,
                completed.partitions > 0 ? completed.partitions : wanted_partitions(completed.m));
  if (!cut) return failure(cut);
  const int capacity = workspace.capacity(recipe_.workspace_per_partition);
  if (cut->partitions > capacity) {
    return refuse(fmt::format("partitions: {} do not fit the workspace of {} bytes, which has room for {}",
                              cut->partitions, workspace.bytes(), capacity));
  }
  // What is not written is not read: the driver knows how long the kernel's own is.
  MappedParameter<KernelParameter<kLongestTable>> parameter;
  LaunchArguments launched = core::launch_arguments(completed, *cut);
  launched.partial_sums = workspace.partial_sums();
  launched.arrivals = workspace.arrivals();
  auto* const form = reinterpret_cast<std::byte*>(&parameter);
  const std::size_t form_size = core::write_form(launched, completed, spec_, form);
  if (recipe_.activation_box_tokens > 0) {
    void* const map = form + tensor_map_offset(static_cast<unsigned int>(form_size));
    if (auto ok = driver_.describe_matrix(
            map, completed.activations, completed.m, spec_.format.k, completed.activation_stride,
            static_cast<unsigned int>(recipe_.activation_box_tokens), decltype(parameter)::kBoxColumns);
        !ok) {
      return ok;
    }
  }
  void* parameters[] = {&parameter};

  // A thread that never used CUDA, or uses another GPU, has another context current, or none.
  cuda::ContextHandle current = nullptr;
  if (auto ok = driver_.check(driver_.api().context_get_current(&current), "cuCtxGetCurrent"); !ok) return ok;
  std::optional<cuda::ContextScope> scope;
  if (current != context_) scope.emplace(driver_, context_);
  const cuda::LaunchConfiguration configuration{
      .grid_x = static_cast<unsigned int>((cut->partitions + cut->idle) * recipe_.cluster_blocks),
      .block_x = static_cast<unsigned int>(recipe_.threads),
      .dynamic_shared_bytes = static_cast<unsigned int>(recipe_.shared_bytes),
      .stream = stream,
      .attributes = attributes_.data(),
      .attribute_count = static_cast<unsigned int>(attributes_.size()),
  };
  return driver_.launch(function_, configuration, parameters);
}

}  // namespace lutsmith
