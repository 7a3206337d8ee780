#include "core/matmul_arguments.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <span>
#include <string_view>

#include "core/result.h"
#include "templates/abi/kernel_arguments.h"

namespace lutsmith::core {
namespace {

static_assert(kSegmentPlaces == kMostSegments);

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
Result<void> check_added(std::string_view name, const void* pointer, bool wanted, std::size_t alignment) {
  if (wanted) return check_pointer(name, pointer, alignment);
  if (pointer == nullptr) return {};
  return refuse(fmt::format("{}: this kernel adds none; give null, or ask for the kernel of a spec with a {}",
                            name, name));
}

Result<void> check_epilogue(const MatmulArguments& completed, const KernelSpec& spec) {
  if (auto ok = check_added("bias", completed.bias, spec.bias, alignof(std::uint16_t)); !ok) return ok;
  const std::size_t alignment = element_bytes(spec.output_type());
  if (auto ok = check_added("residual", completed.residual, spec.residual, alignment); !ok) return ok;
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

Result<void> check_table(const MatmulArguments& completed, const KernelSpec& spec) {
  const WeightFormat& format = spec.format;
  const auto length = static_cast<std::size_t>(launched_table_length(format));
  if (spec.segment_rows > 0) {
    if (auto ok = validate_segments(completed.segments, spec.segment_rows, format.n); !ok) return ok;
  } else if (!completed.segments.empty()) {
    return refuse(
        fmt::format("segments: {} given; this kernel has one table for all rows: give none, or ask for the "
                    "kernel of a spec with segment_rows",
                    completed.segments.size()));
  }
  if (format.row_tables()) {
    if (completed.table.empty()) return {};
    return refuse(
        fmt::format("table: {} values; those of a table for each row are among the packed bytes: give none",
                    completed.table.size()));
  }
  const std::size_t tables = spec.segment_rows > 0 ? completed.segments.size() : 1;
  if (completed.table.size() != tables * length || completed.table.data() == nullptr) {
    return refuse(fmt::format("table: {} values; a {} table of {} bits has {}{}", completed.table.size(),
                              to_string(format.table), format.bits, length,
                              tables == 1 ? "" : fmt::format(", and there are {} segments", tables)));
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
  if (auto ok = check_pointer("output", completed.output, element_bytes(spec.output_type())); !ok) return ok;
  if (auto ok = check_sizes(completed, spec); !ok) return ok;
  if (auto ok = check_epilogue(completed, spec); !ok) return ok;
  return check_table(completed, spec);
}

LaunchArguments launch_arguments(const MatmulArguments& completed, const Partition& cut) {
  return {
      .weights = static_cast<const unsigned char*>(completed.weights.data),
      .activations = static_cast<const unsigned short*>(completed.activations),
      .output = completed.output,
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
      .residual = completed.residual,
      .residual_stride = completed.residual_stride,
      .bias = static_cast<const unsigned short*>(completed.bias),
  };
}

std::size_t write_form(const LaunchArguments& launch, const MatmulArguments& completed,
                       const KernelSpec& spec, std::byte* form) {
  std::memcpy(form, &launch, sizeof(launch));
  const bool segments = spec.segment_rows > 0;
  const std::size_t bytes =
      form_bytes(static_cast<unsigned int>(launched_table_length(spec.format)), segments);
  std::byte* tables = form + sizeof(launch);
  if (segments) {
    std::array<int, kSegmentPlaces> ends;
    ends.fill(std::numeric_limits<int>::max());
    std::int64_t end = 0;
    for (std::size_t i = 0; i + 1 < completed.segments.size(); ++i) {
      end += completed.segments[i];
      ends[i] = static_cast<int>(end);
    }
    std::memcpy(tables, ends.data(), sizeof(ends));
    tables += sizeof(ends);
  }
  std::ranges::copy(std::as_bytes(completed.table), tables);
  std::byte* const rest = tables + completed.table.size_bytes();
  std::fill(rest, form + bytes, std::byte{});
  return bytes;
}

}  // namespace lutsmith::core
