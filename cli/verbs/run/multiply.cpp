#include "cli/verbs/run/multiply.h"

#include "core/output_values.h"
#include "core/poison.h"
#include "runtime/driver.h"

namespace lutsmith::cli {
namespace {

/// No memory, whose address is null, for what the kernel does not add.
Result<cuda::Buffer> copy_of_added(const cuda::Driver& driver, std::span<const std::byte> values) {
  if (values.empty()) return cuda::Buffer{};
  return cuda::Buffer::copy_of(driver, values);
}

}  // namespace

Result<std::vector<float>> multiply_on_gpu(Service& service, const Kernel& kernel, const KernelSpec& spec,
                                           const LayerInputs& inputs) {
  const auto driver = cuda::Driver::open();
  if (!driver) return std::unexpected(driver.error());
  const OutputType type = spec.output_type();
  std::vector<std::byte> result(static_cast<std::size_t>(spec.m * spec.output_channels()) *
                                element_bytes(type));
  auto workspace = service.create_workspace();
  if (!workspace) return std::unexpected(workspace.error());
  const auto packed = cuda::Buffer::copy_of(**driver, inputs.weights.packed);
  if (!packed) return std::unexpected(packed.error());
  const auto input = cuda::Buffer::copy_of(**driver, std::as_bytes(inputs.activations));
  if (!input) return std::unexpected(input.error());
  const auto residual = copy_of_added(**driver, core::bytes_of(inputs.added.residual, type));
  if (!residual) return std::unexpected(residual.error());
  const auto bias = copy_of_added(**driver, std::as_bytes(std::span(inputs.added.bias)));
  if (!bias) return std::unexpected(bias.error());
  const auto output = cuda::Buffer::allocate(**driver, result.size());
  if (!output) return std::unexpected(output.error());
  if (const auto set = (*driver)->set(output->address(), kPoisonByte, result.size()); !set) {
    return std::unexpected(set.error());
  }
  const MatmulArguments arguments{.weights = {spec.format, packed->data(), packed->bytes()},
                                  .activations = input->data(),
                                  .output = output->data(),
                                  .table = inputs.weights.table,
                                  .m = spec.m,
                                  .residual = residual->data(),
                                  .bias = bias->data()};
  if (const auto launched = kernel.launch(arguments, *workspace, nullptr); !launched) {
    return std::unexpected(launched.error());
  }
  if (const auto done = (*driver)->synchronize(); !done) return std::unexpected(done.error());
  if (const auto copied = (*driver)->copy_to_host(result, output->address()); !copied) {
    return std::unexpected(copied.error());
  }
  return core::values_of(result, type);
}

std::vector<float> round_product(std::span<const double> product, OutputType type) {
  std::vector<float> result;
  result.reserve(product.size());
  for (const double value : product) result.push_back(core::rounded_to(static_cast<float>(value), type));
  return result;
}

}  // namespace lutsmith::cli
