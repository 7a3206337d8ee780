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

Result<void> check_sizes(const MatmulArguments& completed, const KernelSpec& spec) {
  const WeightFormat& format = spec.format;
  constexpr std::int64_t kMostTokens = 1 << 30;  // the kernel counts them in 32 bits and rounds up
  if (completed.m < 1 || completed.m > kMostTokens) {
    return refuse(fmt::format("m: {} tokens; 1..{} are allowed", completed.m, kMostTokens));
  }
  if (completed.activation_stride < format.k || completed.activation_stride % 8 != 0) {
    return refuse(
        fmt::format("activation_stride: {}; 0 or a multiple of 8 that is at least k = {} is allowed",
                    completed.activation_stride, format.k));
  }
  if (completed.output_stride < spec.output_channels()) {
    return refuse(fmt::format("output_stride: {}; 0 or at least n{} = {} is allowed", completed.output_stride,
                              spec.gated == Gate::none ? "" : " / 2", spec.output_channels()));
  }
  if (completed.partitions < 0) {
    return refuse(
        fmt::format("partitions: {}; 0 (the library's choice) or more are allowed", completed.partitions));
  }
  return {};
}

/// What a spec does not name is not to be given: it would be left out without a word.
Result<void> check_added(std::string_view name, const void* pointer, bool wanted) {
  if (wanted) return check_pointer(name, pointer, alignof(std::uint16_t));
  if (pointer == nullptr) return {};
  return refuse(fmt::format("{}: this kernel adds none; give null, or ask for the kernel of a spec with a {}",
                            name, name));
}

Result<void> check_epilogue(const MatmulArguments& completed, const KernelSpec& spec) {
  if (auto ok = check_added("bias", completed.bias, spec.bias); !ok) return ok;
  if (auto ok = check_added("residual", completed.residual, spec.residual); !ok) return ok;
  if (!spec.residual) return {};
  if (completed.residual_stride < spec.format.n) {
    return refuse(fmt::format("residual_stride: {}; 0 or at least n = {} is allowed",
                              completed.residual_stride, spec.format.n));
  }
  if (completed.residual == completed.output && completed.residual_stride != completed.output_stride) {
    return refuse(fmt::format("residual_stride: {}; a residual in the place of the output has its stride, {}",
                              completed.residual_stride, completed.output_stride));
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

MatmulArguments completed(MatmulArguments arguments, const KernelSpec& spec, std::int64_t tokens) {
  if (arguments.m == 0) arguments.m = tokens;
  if (arguments.activation_stride == 0) arguments.activation_stride = spec.format.k;
  if (arguments.output_stride == 0) arguments.output_stride = spec.output_channels();
  if (arguments.residual_stride == 0) arguments.residual_stride = spec.format.n;
  return arguments;
}

Result<void> check(const MatmulArguments& completed, const KernelSpec& spec, std::size_t packed_bytes) {
  if (auto ok = check_weights(completed.weights, spec, packed_bytes); !ok) return ok;
  if (auto ok = check_pointer("activations", completed.activations, kVectorAlignment); !ok) return ok;
  if (auto ok = check_pointer("output", completed.output, alignof(std::uint16_t)); !ok) return ok;
  if (auto ok = check_sizes(completed, spec); !ok) return ok;
  if (auto ok = check_epilogue(completed, spec); !ok) return ok;
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
      .residual = static_cast<const unsigned short*>(completed.residual),
      .residual_stride = completed.residual_stride,
      .bias = static_cast<const unsigned short*>(completed.bias),
  };
}

}  // namespace lutsmith::core
