#include "cli/verbs/run/emulate.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "core/output_values.h"
#include "core/poison.h"

namespace lutsmith::cli {
namespace {

// Half as many partitions again as there are tiles, as far as a GPU holds their blocks at a time: then most
// tiles are cut and their partial sums are added up, which the library's own choice does for long rows only.
int cutting_partitions(const KernelSpec& spec, const LaunchRecipe& launch) {
  const std::int64_t tiles = launch.row_tiles * ((spec.m + launch.tile_tokens - 1) / launch.tile_tokens);
  const std::int64_t resident = resident_partitions(launch, spec.target.traits().multiprocessors);
  return static_cast<int>(std::min(resident, tiles + (tiles + 1) / 2));
}

}  // namespace

Result<Emulation> Emulation::start() {
  auto compiler = emulator::HostCompiler::find();
  if (!compiler) return std::unexpected(compiler.error());
  return Emulation(*std::move(compiler));
}

Result<Emulation::Compiled> Emulation::compiled(const KernelSpec& spec, const Source& source) {
  const auto known = kernels_.find(source.text);
  if (known != kernels_.end()) return Compiled{&known->second, false};
  auto kernel = emulator::EmulatedKernel::compile(compiler_, spec, source);
  if (!kernel) return std::unexpected(kernel.error());
  return Compiled{&kernels_.emplace(source.text, *std::move(kernel)).first->second, true};
}

Result<EmulatedProduct> Emulation::multiply(const KernelSpec& spec, const LayerInputs& inputs) {
  const auto start = std::chrono::steady_clock::now();
  const auto candidates = schedules(spec);
  if (!candidates) return std::unexpected(candidates.error());
  EmulatedProduct product{.schedule = candidates->front(), .kernel_name = {}, .values = {}};
  const auto source = render(spec, product.schedule);
  if (!source) return std::unexpected(source.error());
  product.kernel_name = source->kernel_name;
  const auto kernel = compiled(spec, *source);
  if (!kernel) return std::unexpected(kernel.error());
  const std::chrono::duration<double, std::milli> elapsed = std::chrono::steady_clock::now() - start;
  product.compiled = kernel->now;
  product.compile_milliseconds = elapsed.count();

  const auto cut = partition(source->launch, spec.m, spec.target.traits().multiprocessors,
                             cutting_partitions(spec, source->launch));
  if (!cut) return std::unexpected(cut.error());
  const std::vector<std::uint16_t> input(inputs.activations.begin(), inputs.activations.end());
  const OutputType type = spec.output_type();
  const std::vector<std::byte> residual = core::bytes_of(inputs.added.residual, type);
  std::vector<std::byte> output(
      static_cast<std::size_t>(spec.m * spec.output_channels()) * element_bytes(type),
      std::byte{kPoisonByte});
  const auto ran = kernel->kernel->launch({.weights = inputs.weights.packed,
                                           .activations = input,
                                           .output = output,
                                           .table = inputs.weights.table,
                                           .m = spec.m,
                                           .partition = *cut,
                                           .residual = residual,
                                           .bias = inputs.added.bias});
  if (!ran) return std::unexpected(ran.error());
  product.values = core::values_of(output, type);
  return product;
}

}  // namespace lutsmith::cli
