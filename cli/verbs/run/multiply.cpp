#include "cli/verbs/run/multiply.h"

#include "core/poison.h"
#include "runtime/driver.h"

namespace lutsmith::cli {
namespace {

/// No memory, whose address is null, for what the kernel does not add.
Result<cuda::Buffer> copy_of_added(const cuda::Driver& driver, const std::vector<std::uint16_t>& values) {
  if (values.empty()) return cuda::Buffer{};
  return cuda::Buffer::copy_of(driver, std::as_bytes(std::span(values)));
}

}  // namespace

Result<std::vector<std::uint16_t>> multiply_on_gpu(Service& service, const Kernel& kernel,
                                                   const KernelSpec& spec, const LayerInputs& inputs) {
  const auto driver = cuda::Driver::open();
  if (!driver) return std::unexpected(driver.error());
  std::vector<std::uint16_t> result(static_cast<std::size_t>(spec.m * spec.output_channels()));
  const std::span<std::byte> result_bytes = std::as_writable_bytes(std::span(result));
  auto workspace = service.create_workspace();
  if (!workspace) return std::unexpected(workspace.error());
  const auto packed = cuda::Buffer::copy_of(**driver, inputs.weights.packed);
  if (!packed) return std::unexpected(packed.error());
  const auto input = cuda::Buffer::copy_of(**driver, std::as_bytes(inputs.activations));
  if (!input) return std::unexpected(input.error());
  const auto residual = copy_of_added(**driver, inputs.added.residual);
  if (!residual) return std::unexpected(residual.error());
  const auto bias = copy_of_added(**driver, inputs.added.bias);
  if (!bias) return std::unexpected(bias.error());
  const auto output = cuda::Buffer::allocate(**driver, result_bytes.size());
  if (!output) return std::unexpected(output.error());
  if (const auto set = (*driver)->set(output->address(), kPoisonByte, result_bytes.size()); !set) {
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
  if (const auto copied = (*driver)->copy_to_host(result_bytes, output->address()); !copied) {
    return std::unexpected(copied.error());
  }
  return result;
}

std::vector<std::uint16_t> round_product(std::span<const double> product, DataType dtype) {
  std::vector<std::uint16_t> result;
  result.reserve(product.size());
  for (const double value : product) result.push_back(to_bits(static_cast<float>(value), dtype));
  return result;
}

}  // namespace lutsmith::cli
