#include "emulator/emulated_kernel.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <system_error>
#include <utility>
#include <vector>

#include "core/matmul_arguments.h"
#include "core/result.h"
#include "emulator/embedded_headers.h"
#include "emulator/temporary_folder.h"
#include "emulator/tensor_map.h"
#include "templates/abi/kernel_arguments.h"
#include "templates/abi/packed_layout.h"

namespace lutsmith::emulator {
namespace {

namespace fs = std::filesystem;

constexpr const char* kEntry = "lutsmith_emulate_thread";

/// What the compiler reads: the primitives, the emitted source as it is, and the way in.
constexpr const char* kUnit = R"(#include "emulator/device/primitives.h"
#include "kernel.cu"

extern "C" __attribute__((visibility("default"))) void lutsmith_emulate_thread(
    lutsmith::emulator::Machine* machine, const void* parameter) {
  static_assert(static_cast<int>(lutsmith::device::Element::bf16) == 1, "as primitives.h takes it");
  lutsmith::emulator::run_thread(LUTSMITH_KERNEL, *machine, parameter);
}
)";

Result<void> write(const fs::path& file, std::string_view text) {
  std::error_code ignored;
  fs::create_directories(file.parent_path(), ignored);
  std::ofstream stream(file, std::ios::binary);
  stream.write(text.data(), static_cast<std::streamsize>(text.size()));
  stream.close();
  if (stream) return {};
  return std::unexpected(Error{ErrorCode::io_error, fmt::format("cannot write {}", file.string()), {}});
}

std::vector<std::string> compiler_arguments(const TemporaryFolder& folder, const std::string& kernel) {
  std::vector<std::string> arguments = {
      "-std=c++17",
      "-w",
      "-fPIC",
      "-shared",
      "-nostdlib",  // what a kernel calls is here; to look through libraries takes a fifth of the time
      "-fvisibility=hidden",
      "-ftrivial-auto-var-init=pattern",  // a register that is read before it is written shows
      "-O0",  // optimising takes longer than it saves: most of the time goes into the machine's own checks
      "-I" + folder.string(),
      "-DLUTSMITH_KERNEL=" + kernel};
#if defined(__SANITIZE_ADDRESS__)
  // The sanitizers watch the kernel too.
  arguments.insert(arguments.end(), {"-fsanitize=address,undefined", "-fno-sanitize-recover=all"});
#endif
  arguments.insert(arguments.end(),
                   {"-o", (folder / "kernel.so").string(), (folder / "unit.cpp").string(), "-lm"});
  return arguments;
}

Result<std::shared_ptr<void>> open_library(const fs::path& file) {
  void* const handle = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) {
    return std::unexpected(Error{
        ErrorCode::io_error,
        fmt::format("cannot load the kernel compiled for this machine: {}; TMPDIR must allow to execute",
                    dlerror()),
        {}});
  }
  return std::shared_ptr<void>(handle, [](void* library) { dlclose(library); });
}

/// Of a kernel's parameter, in the strictest alignment that one has.
struct alignas(TensorMap) ParameterPart {
  std::byte bytes[alignof(TensorMap)];
};

/// The form; then, where X comes in boxes, the map of it at the next multiple of its alignment.
std::vector<ParameterPart> parameter_of(const LaunchArguments& arguments, const MatmulArguments& matmul,
                                        const KernelSpec& spec, int box_tokens) {
  const auto length = static_cast<unsigned int>(launched_table_length(spec.format));
  const std::size_t form =
      tensor_map_offset(form_bytes(length, spec.segment_rows > 0)) / sizeof(ParameterPart);
  std::vector<ParameterPart> parameter(form + sizeof(TensorMap) / sizeof(ParameterPart));
  core::write_form(arguments, matmul, spec, reinterpret_cast<std::byte*>(parameter.data()));
  if (box_tokens > 0) {
    const TensorMap map = describe_matrix(arguments.activations, spec.format.k, arguments.tokens,
                                          arguments.activation_stride, box_tokens);
    std::memcpy(parameter.data() + form, &map, sizeof(map));
  }
  return parameter;
}

}  // namespace

Result<EmulatedKernel> EmulatedKernel::compile(const HostCompiler& compiler, const KernelSpec& spec,
                                               const Source& source) {
  const auto folder = TemporaryFolder::make("lutsmith-emulator");
  if (!folder) return std::unexpected(folder.error());
  for (const EmbeddedFile& header : embedded_emulator_headers()) {
    if (const auto written = write(*folder / header.name, header.text); !written) {
      return std::unexpected(written.error());
    }
  }
  for (const auto& [name, text] :
       {std::pair<std::string_view, std::string_view>{"kernel.cu", source.text}, {"unit.cpp", kUnit}}) {
    if (const auto written = write(*folder / name, text); !written) return std::unexpected(written.error());
  }
  const auto compiled = compiler.run(compiler_arguments(*folder, source.kernel_name), folder->path());
  if (!compiled) return std::unexpected(compiled.error());
  auto library = open_library(*folder / "kernel.so");
  if (!library) return std::unexpected(library.error());
  void* const entry = dlsym(library->get(), kEntry);
  if (entry == nullptr) {
    return std::unexpected(
        Error{ErrorCode::corrupt_data, fmt::format("the compiled kernel has no {}", kEntry), {}});
  }
  return EmulatedKernel(*std::move(library), reinterpret_cast<Entry>(entry), spec, source.launch);
}

/// The caller's mistakes, so that what the grid reports is the kernel's.
Result<void> EmulatedKernel::check(const EmulatedLaunch& launch, const MatmulArguments& arguments) const {
  const auto packed = static_cast<std::size_t>(packed_layout(spec_.format).packed_bytes());
  if (Result<void> valid = core::check(arguments, spec_, packed); !valid) return valid;
  const auto input = static_cast<std::size_t>((launch.m - 1) * arguments.activation_stride + spec_.format.k);
  const auto output =
      static_cast<std::size_t>((launch.m - 1) * arguments.output_stride + spec_.output_channels());
  if (launch.activations.size() < input) {
    return refuse(
        fmt::format("activations: {} values; {} tokens need {}", launch.activations.size(), launch.m, input));
  }
  const std::size_t element = element_bytes(spec_.output_type());
  if (launch.output.size() < output * element) {
    return refuse(
        fmt::format("output: {} bytes; {} tokens need {}", launch.output.size(), launch.m, output * element));
  }
  const auto residual = static_cast<std::size_t>((launch.m - 1) * arguments.residual_stride + spec_.format.n);
  if (spec_.residual && launch.residual.size() < residual * element) {
    return refuse(fmt::format("residual: {} bytes; {} tokens need {}", launch.residual.size(), launch.m,
                              residual * element));
  }
  if (spec_.bias && launch.bias.size() < static_cast<std::size_t>(spec_.format.n)) {
    return refuse(fmt::format("bias: {} values; n = {} need as many", launch.bias.size(), spec_.format.n));
  }
  const Partition& cut = launch.partition;
  const std::int64_t token_tiles = (launch.m + recipe_.tile_tokens - 1) / recipe_.tile_tokens;
  const std::int64_t steps = recipe_.row_tiles * recipe_.steps_per_tile * token_tiles;
  const std::int64_t covered =
      (std::int64_t{cut.sharing} * cut.grains_per_partition + cut.extra_grains) * cut.steps_per_grain +
      std::int64_t{cut.partitions} * cut.whole_tiles * recipe_.steps_per_tile;
  if (cut.partitions < 1 || covered != steps) {
    return refuse(fmt::format("partition: {} partitions cover {} steps; {} tokens have {}", cut.partitions,
                              covered, launch.m, steps));
  }
  return {};
}

Result<void> EmulatedKernel::launch(const EmulatedLaunch& launch) const {
  const MatmulArguments matmul = core::completed(
      {.weights = {.format = spec_.format, .data = launch.weights.data(), .bytes = launch.weights.size()},
       .activations = launch.activations.data(),
       .output = launch.output.data(),
       .table = launch.table,
       .m = launch.m,
       .activation_stride = launch.activation_stride,
       .output_stride = launch.output_stride,
       .residual = launch.residual.data(),
       .residual_stride = launch.residual_stride,
       .bias = launch.bias.data(),
       .segments = launch.segments},
      spec_, launch.m);
  if (Result<void> valid = check(launch, matmul); !valid) return valid;
  const auto partitions = static_cast<std::size_t>(launch.partition.partitions);
  const WorkspaceSize& each = recipe_.workspace_per_partition;
  const std::size_t floats = partitions * each.partial_sum_bytes / sizeof(float);
  const std::size_t counters = partitions * static_cast<std::size_t>(each.arrival_counters);
  // Not vectors: an allocation of exactly what the kernel may touch.
  const auto partial_sums = std::make_unique<float[]>(floats);
  const auto arrivals = std::make_unique<unsigned int[]>(counters);
  LaunchArguments arguments = core::launch_arguments(matmul, launch.partition);
  arguments.partial_sums = partial_sums.get();
  arguments.arrivals = arrivals.get();
  const std::vector<ParameterPart> parameter =
      parameter_of(arguments, matmul, spec_, recipe_.activation_box_tokens);

  const Regions regions{
      .weights = launch.weights,
      .activations = std::as_bytes(launch.activations),
      .output = launch.output,
      .partial_sums = std::as_writable_bytes(std::span(partial_sums.get(), floats)),
      .arrivals = std::as_writable_bytes(std::span(arrivals.get(), counters)),
      .residual = launch.residual,
      .bias = std::as_bytes(launch.bias),
      .output_element_bytes = element_bytes(spec_.output_type()),
  };
  const GridShape shape{
      .blocks = (launch.partition.partitions + launch.partition.idle) * recipe_.cluster_blocks,
      .threads = recipe_.threads,
      .shared_bytes = recipe_.shared_bytes,
      .dependent_launch = recipe_.dependent_launch,
      .cluster_blocks = recipe_.cluster_blocks};
  return run_grid(shape, regions, launch.order,
                  [&](Machine& machine) { entry_(&machine, parameter.data()); });
}

}  // namespace lutsmith::emulator
