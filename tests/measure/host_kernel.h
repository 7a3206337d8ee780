#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <utility>
#include <vector>

#include "core/output_values.h"
#include "lutsmith/quantization.h"
#include "measure/product.h"
#include "must.h"
#include "simulated_device.h"

namespace lutsmith::test {

/// As many values as the spec says, of one of the arguments; none where that is null.
template <class Value = std::uint16_t>
std::span<const Value> values_at(const void* address, std::int64_t count) {
  if (address == nullptr) return {};
  return {static_cast<const Value*>(address), static_cast<std::size_t>(count)};
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
      if (!format.row_tables()) matrix.table.assign(arguments.table.begin(), arguments.table.end());
      matrix.segments.assign(arguments.segments.begin(), arguments.segments.end());
      std::vector<double> sums = must(
          reference_matmul(matrix, values_at(arguments.activations, arguments.m * format.k), arguments.m));
      for (double& sum : sums) sum *= factor;
      const OutputType type = spec.output_type();
      const auto element = static_cast<std::int64_t>(element_bytes(type));
      const std::vector<float> residual =
          core::values_of(values_at<std::byte>(arguments.residual, arguments.m * format.n * element), type);
      const std::vector<double> result = must(reference_epilogue(
          std::move(sums), format,
          {.gated = spec.gated, .bias = values_at(arguments.bias, format.n), .residual = residual}));
      const std::vector<float> written(result.begin(), result.end() - static_cast<std::ptrdiff_t>(unwritten));
      const std::vector<std::byte> bytes = core::bytes_of(written, type);
      std::memcpy(arguments.output, bytes.data(), bytes.size());
    });
  };
}

}  // namespace lutsmith::test
