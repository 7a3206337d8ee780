#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "lutsmith/weight_format.h"

namespace lutsmith {

/// Weights in device memory as `pack` makes them. A launch refuses those of another format than the kernel's,
/// and those that are not `packed_bytes(format)` long, instead of reading past their end.
struct PackedWeights {
  WeightFormat format = {};
  const void* data = nullptr;  ///< 16-byte aligned
  std::size_t bytes = 0;
};

/// One multiplication. Device pointers unless said; matrices row-major.
struct MatmulArguments {
  /// Where the schedule uses dependent launch they are read before the launch ahead in the stream has
  /// finished, so that one must not write them.
  PackedWeights weights = {};
  const void* activations = nullptr;  ///< X [m, k] in the spec's dtype, 16-byte aligned
  /// Y [m, n], gated [m, n / 2], in the spec's output_type(), at a multiple of the size of an element
  void* output = nullptr;
  /// Host memory, in the spec's dtype; copied by the launch. None where the packed bytes have a table for
  /// each row.
  std::span<const std::uint16_t> table = {};
  std::int64_t m = 0;                  ///< tokens, any number; 0: as many as the kernel was asked for
  std::int64_t activation_stride = 0;  ///< elements between rows of X, a multiple of 8; 0: k
  std::int64_t output_stride = 0;      ///< elements between rows of Y; 0: its channels
  /// Stream-K partitions; 0: the library's choice. Of batch-invariant kernels only how many blocks share the
  /// tiles.
  int partitions = 0;
  /// R [m, n] of a spec with a residual, in the output's type and likewise aligned; else null. Where it is
  /// not the output itself, with its stride, the two must not overlap.
  const void* residual = nullptr;
  std::int64_t residual_stride = 0;  ///< elements between rows of R; 0: n
  /// b [n] of a spec with a bias, in its dtype, 2-byte aligned; else null. Read before the launch ahead in
  /// the stream has finished, as the weights are.
  const void* bias = nullptr;
  /// Rows of each segment of a spec with segment_rows, n in all; host memory, copied by the launch. `table`
  /// then has a table of each, one behind another. Else none.
  std::span<const std::int64_t> segments = {};
};

}  // namespace lutsmith
