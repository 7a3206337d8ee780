#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "lutsmith/float16.h"
#include "lutsmith/quantization.h"
#include "measure/product.h"
#include "must.h"
#include "simulated_device.h"

namespace lutsmith::test {

/// A kernel that multiplies on the host by the reference, from the bytes it is given. Times `factor`; of the
/// result it leaves the last `unwritten` values alone.
inline measure::Multiply host_kernel(SimulatedDevice& device, const WeightFormat& format, double factor = 1,
                                     std::size_t unwritten = 0) {
  return [&device, format, factor, unwritten](const MatmulArguments& arguments) {
    return device.enqueue_work([=] {
      QuantizedMatrix matrix = must(
          unpack({static_cast<const std::byte*>(arguments.weights.data), arguments.weights.bytes}, format));
      matrix.table.assign(arguments.table.begin(), arguments.table.end());
      const std::span activations(static_cast<const std::uint16_t*>(arguments.activations),
                                  static_cast<std::size_t>(arguments.m * format.k));
      const std::vector<double> product = must(reference_matmul(matrix, activations, arguments.m));
      auto* output = static_cast<std::uint16_t*>(arguments.output);
      for (std::size_t i = 0; i + unwritten < product.size(); ++i) {
        output[i] = to_bits(static_cast<float>(factor * product[i]), format.dtype);
      }
    });
  };
}

}  // namespace lutsmith::test
