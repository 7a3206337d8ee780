#include "core/matmul_arguments.h"

#include <fmt/format.h>

#include <span>
#include <string_view>

#include "core/result.h"
#include "templates/abi/kernel_arguments.h"

namespace lutsmith::core {
namespace {

constexpr std::uintptr_t kVectorAlignment = 16;

Result<void> check_pointer(std::string_view name, const void* pointer, std::uintptr_t alignment) {
  if (pointer == nullptr) return refuse(fmt::format("{}: null; give the address of its first byte", name));
  if (reinterpret_cast<std::uintptr_t>(pointer) % alignment != 0) {
    return refuse(fmt::format("{}: {} is not a multiple of {} bytes", name, pointer, alignment));
  }
  return {};
}

Result<void> check_weights(const PackedWeights& weights, const KernelSpec& spec, std::size_t packed_bytes) {
  if (auto ok = check_pointer("weights", weights.data, kVectorAlignment); !ok) return ok;
  if (weights.format != spec.format) {
    KernelSpec theirs = spec;
    theirs.format = weights.format;
    return refuse(fmt::format("weights: they are packed for {}; this kernel multiplies {}", describe(theirs),
                              describe(spec)));
  }
  if (weights.bytes != packed_bytes) {
    return refuse(
        fmt::format("weights: {} bytes; those of {} are {}", weights.bytes, describe(spec), packed_bytes));
  }
  return {};
}

Result<void> check_sizes(const MatmulArguments& completed, const WeightFormat& format) {
  constexpr std::int64_t kMostTokens = 1 << 30;  // the kernel counts them in 32 bits and rounds up
  if (completed.m < 1 || completed.m > kMostTokens) {
    return refuse(fmt::format("m: {} tokens; 1..{} are allowed", completed.m, kMostTokens));
  }
  if (completed.activation_stride < format.k || completed.activation_stride % 8 != 0) {
    return refuse(
        fmt::format("activation_stride: {}; 0 or a multiple of 8 that is at least k = {} is allowed",
                    completed.activation_stride, format.k));
  }
  if (completed.output_stride < format.n) {
    return refuse(
        fmt::format("output_stride: {}; 0 or at least n = {} is allowed", completed.output_stride, format.n));
  }
  if (completed.partitions < 0) {
    return refuse(
        fmt::format("partitions: {}; 0 (the library's choice) or more are allowed", completed.partitions));
  }
  return {};
}

Result<void> check_table(std::span<const std::uint16_t> table, const WeightFormat& format) {
  const auto length = static_cast<std::size_t>(table_length(format.bits, format.table));
  if (table.size() != length || table.data() == nullptr) {
    return refuse(fmt::format("table: {} values; a {} table of {} bits has {}", table.size(),
                              to_string(format.table), format.bits, length));
  }
  return {};
}

}  // namespace

MatmulArguments completed(MatmulArguments arguments, const WeightFormat& format, std::int64_t tokens) {
  if (arguments.m == 0) arguments.m = tokens;
  if (arguments.activation_stride == 0) arguments.activation_stride = format.k;
  if (arguments.output_stride == 0) arguments.output_stride = format.n;
  return arguments;
}

Result<void> check(const MatmulArguments& completed, const KernelSpec& spec, std::size_t packed_bytes) {
  if (auto ok = check_weights(completed.weights, spec, packed_bytes); !ok) return ok;
  if (auto ok = check_pointer("activations", completed.activations, kVectorAlignment); !ok) return ok;
  if (auto ok = check_pointer("output", completed.output, alignof(std::uint16_t)); !ok) return ok;
  if (auto ok = check_sizes(completed, spec.format); !ok) return ok;
  return check_table(completed.table, spec.format);
}

LaunchArguments launch_arguments(const MatmulArguments& completed, const Partition& cut) {
  return {
      .weights = static_cast<const unsigned char*>(completed.weights.data),
      .activations = static_cast<const unsigned short*>(completed.activations),
      .output = static_cast<unsigned short*>(completed.output),
      .partial_sums = nullptr,
      .arrivals = nullptr,
      .activation_stride = completed.activation_stride,
      .output_stride = completed.output_stride,
      .tokens = static_cast<int>(completed.m),
      .steps_per_grain = cut.steps_per_grain,
      .grains_per_partition = cut.grains_per_partition,
      .extra_grains = cut.extra_grains,
      .whole_tiles = cut.whole_tiles,
      .sharing = cut.sharing,
  };
}

}  // namespace lutsmith::core
