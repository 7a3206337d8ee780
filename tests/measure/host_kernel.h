#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <utility>
#include <vector>

#include "lutsmith/float16.h"
#include "lutsmith/quantization.h"
#include "measure/product.h"
#include "must.h"
#include "simulated_device.h"

namespace lutsmith::test {

/// As many values as the spec says, of one of the arguments; none where that is null.
inline std::span<const std::uint16_t> values_at(const void* address, std::int64_t count) {
  if (address == nullptr) return {};
  return {static_cast<const std::uint16_t*>(address), static_cast<std::size_t>(count)};
}

/// A kernel that multiplies on the host by the reference, from the bytes it is given, and makes of the sums
/// what the spec says. Sums times `factor`; of the result it leaves the last `unwritten` values alone.
inline measure::Multiply host_kernel(SimulatedDevice& device, const KernelSpec& spec, double factor = 1,
                                     std::size_t unwritten = 0) {
  return [&device, spec, factor, unwritten](const MatmulArguments& arguments) {
    return device.enqueue_work([=] {
      const WeightFormat& format = spec.format;
      QuantizedMatrix matrix = must(
          unpack({static_cast<const std::byte*>(arguments.weights.data), arguments.weights.bytes}, format));
      matrix.table.assign(arguments.table.begin(), arguments.table.end());
      matrix.segments.assign(arguments.segments.begin(), arguments.segments.end());
      std::vector<double> sums = must(
          reference_matmul(matrix, values_at(arguments.activations, arguments.m * format.k), arguments.m));
      for (double& sum : sums) sum *= factor;
      const std::vector<double> result =
          must(reference_epilogue(std::move(sums), format,
                                  {.gated = spec.gated,
                                   .bias = values_at(arguments.bias, format.n),
                                   .residual = values_at(arguments.residual, arguments.m * format.n)}));
      auto* output = static_cast<std::uint16_t*>(arguments.output);
      for (std::size_t i = 0; i + unwritten < result.size(); ++i) {
        output[i] = to_bits(static_cast<float>(result[i]), format.dtype);
      }
    });
  };
}

}  // namespace lutsmith::test
