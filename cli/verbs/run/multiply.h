#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "checkpoint/packed_file.h"
#include "lutsmith/service.h"
#include "measure/random_weights.h"

namespace lutsmith::cli {

/// What a kernel for a packed layer reads, in host memory.
struct LayerInputs {
  const LayerWeights& weights;
  std::span<const std::uint16_t> activations;  ///< X [m, k] row-major in the layer's dtype
  const measure::AddedTerms& added;
};

/// Y = X * W^T of a packed layer on the GPU of `kernel`, which is one for `spec`, and what that makes of it:
/// [m, output channels], row-major. Waits for the result.
Result<std::vector<float>> multiply_on_gpu(Service& service, const Kernel& kernel, const KernelSpec& spec,
                                           const LayerInputs& inputs);

/// The same from a float64 product: each element rounded to `type`, as a kernel without any error
/// would leave it.
std::vector<float> round_product(std::span<const double> product, OutputType type);

}  // namespace lutsmith::cli
