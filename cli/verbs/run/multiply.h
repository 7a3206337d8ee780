#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "checkpoint/packed_file.h"
#include "lutsmith/service.h"

namespace lutsmith::cli {

/// Y = X * W^T of a packed layer on the GPU of `kernel`, which is one for `spec`: X is [m, k], the result [m,
/// n], both row-major in the layer's dtype. Waits for the result.
Result<std::vector<std::uint16_t>> multiply_on_gpu(Service& service, const Kernel& kernel,
                                                   const KernelSpec& spec, const LayerWeights& weights,
                                                   std::span<const std::uint16_t> activations);

/// The same from a float64 product: each element rounded to `dtype`, as a kernel without any error
/// would leave it.
std::vector<std::uint16_t> round_product(std::span<const double> product, DataType dtype);

}  // namespace lutsmith::cli
