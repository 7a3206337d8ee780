#include "lutsmith/kernel_spec.h"
#include "core/field_text.h"
#include "core/format_fields.h"
#include "core/result.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

namespace lutsmith {
namespace {

constexpr int kMaxKernelBits = 4;

/// Fewer than can be packed: a kernel looks two weights up at once, by a byte that holds the codes of both.
Result<void> validate_kernel_bits(int bits) {
  if (bits >= 1 && bits <= kMaxKernelBits) return {};
  const bool packed = validate_bits(bits).has_value();
  return refuse(fmt::format("bits: {} is not allowed; allowed: 1, 2, 3, 4{}", bits,
                            packed ? "; more can be packed and multiplied by the reference, but no kernel "
                                     "multiplies them: quantize to at most 4 bits for kernels"
                                   : ""));
}

}  // namespace

std::string_view to_string(Gate gate) {
  switch (gate) {
    case Gate::none:
      return "none";
    case Gate::silu:
      return "silu";
    case Gate::gelu_tanh:
      return "gelu_tanh";
  }
  return "unknown";
}

Result<Gate> parse_gate(std::string_view name) {
  for (const Gate gate : {Gate::none, Gate::silu, Gate::gelu_tanh}) {
    if (to_string(gate) == name) return gate;
  }
  return refuse(fmt::format("gated: '{}' is not known; allowed: none, silu, gelu_tanh", name));
}

std::string_view to_string(OutputType type) {
  switch (type) {
    case OutputType::same:
      return "same";
    case OutputType::f16:
      return "f16";
    case OutputType::bf16:
      return "bf16";
    case OutputType::f32:
      return "f32";
  }
  return "unknown";
}

Result<OutputType> parse_output_type(std::string_view name) {
  for (const OutputType type : {OutputType::same, OutputType::f16, OutputType::bf16, OutputType::f32}) {
    if (to_string(type) == name) return type;
  }
  return refuse(fmt::format("output: '{}' is not known; allowed: same (as dtype), f16, bf16, f32", name));
}

KernelSpec without_epilogue(KernelSpec spec) {
  spec.residual = false;
  spec.bias = false;
  spec.gated = Gate::none;
  spec.segment_rows = 0;
  spec.output = OutputType::same;
  return spec;
}

std::string describe_epilogue(const KernelSpec& spec) {
  std::string text;
  const auto add = [&](std::string_view part) {
    text += fmt::format("{}{}", text.empty() ? "" : ", ", part);
  };
  if (spec.residual) add("residual");
  if (spec.bias) add("bias");
  if (spec.gated != Gate::none) add(fmt::format("{} gates", to_string(spec.gated)));
  if (spec.segment_rows != 0) add(fmt::format("segments of {}", spec.segment_rows));
  if (spec.converts_output()) add(fmt::format("{} output", to_string(spec.output)));
  return text;
}

std::int64_t token_bucket(std::int64_t m) {
  if (m < 1 || m > kMaxSize) return m;
  const auto* const found = std::ranges::lower_bound(kTokenBuckets, m);
  return found != kTokenBuckets.end() ? *found : kTokenBuckets.back();
}

Result<void> validate_epilogue(const KernelSpec& spec) {
  if (spec.output < OutputType::same || spec.output > OutputType::f32) {
    return refuse(fmt::format("output: {} is not allowed; allowed: same (as dtype), f16, bf16, f32",
                              static_cast<int>(spec.output)));
  }
  if (spec.gated == Gate::none) return {};
  if (spec.gated != Gate::silu && spec.gated != Gate::gelu_tanh) {
    return refuse(fmt::format("gated: {} is not allowed; allowed: none, silu, gelu_tanh",
                              static_cast<int>(spec.gated)));
  }
  if (spec.residual || spec.bias) {
    return refuse(
        fmt::format("gated: {} is not allowed beside a {}; allowed: gated alone, or residual and bias",
                    to_string(spec.gated), spec.residual ? "residual" : "bias"));
  }
  if (spec.format.n % (2 * kGateRows) != 0) {
    return refuse(
        fmt::format("n: {} is not allowed where rows are gated; allowed: multiples of {}, eight rows of "
                    "the gate and eight others in turn",
                    spec.format.n, 2 * kGateRows));
  }
  return {};
}

Result<void> validate(const KernelSpec& spec) {
  if (auto checked = validate_kernel_bits(spec.format.bits); !checked) return checked;
  if (auto checked = validate(spec.format); !checked) return checked;
  if (spec.m < 1 || spec.m > kMaxSize) {
    return refuse(
        fmt::format("m: {} is not allowed; allowed: 1 to {}, the tokens to tune for", spec.m, kMaxSize));
  }
  if (spec.target.is_native()) {
    return refuse(
        "target: none is named; name one, such as sm_90a (only a service can take the GPU at hand)");
  }
  if (auto checked = validate_segment_rows(spec); !checked) return checked;
  return validate_epilogue(spec);
}

Result<void> validate_segment_rows(const KernelSpec& spec) {
  if (spec.segment_rows == 0) return {};
  if (std::ranges::find(kSegmentRows, spec.segment_rows) == kSegmentRows.end()) {
    return refuse(fmt::format("segment_rows: {} is not allowed; allowed: 0 (one table for all rows), {}",
                              spec.segment_rows, fmt::join(kSegmentRows, ", ")));
  }
  if (spec.format.table != TableKind::scalar) {
    return refuse(fmt::format(
        "segment_rows: {} is not allowed with {}; allowed: 0, or scalar tables", spec.segment_rows,
        spec.format.row_tables() ? "a table for each row, which needs no segments" : "a table of pairs"));
  }
  if (spec.gated != Gate::none) {
    return refuse(
        fmt::format("segment_rows: {} is not allowed where rows are gated, since rows of the gate and others "
                    "take turns; allowed: 0, with one table for both",
                    spec.segment_rows));
  }
  constexpr int kSmallestTile = 128;  // of the families that are batch-invariant
  if (spec.batch_invariant && spec.segment_rows < kSmallestTile) {
    return refuse(
        fmt::format("segment_rows: {} is not allowed with batch_invariant, whose tiles have more rows; "
                    "allowed: 0, 128, 256",
                    spec.segment_rows));
  }
  return {};
}

Result<void> validate_segments(std::span<const std::int64_t> segments, int segment_rows, std::int64_t n) {
  if (segments.empty() || segments.size() > kMostSegments) {
    return refuse(
        fmt::format("segments: {} given; allowed: the rows of 1 to {}", segments.size(), kMostSegments));
  }
  if (segments.data() == nullptr) {
    return refuse(
        fmt::format("segments: a null pointer to {} is not allowed; give their rows", segments.size()));
  }
  std::int64_t rows = 0;
  for (std::size_t i = 0; i < segments.size(); ++i) {
    const bool last = i + 1 == segments.size();
    if (segments[i] < 1 || segments[i] > n || (!last && segments[i] % segment_rows != 0)) {
      return refuse(fmt::format("segments: {} rows at index {}; allowed: {}, at most n {}", segments[i], i,
                                last ? "1 or more" : fmt::format("a multiple of {}", segment_rows), n));
    }
    rows += segments[i];
  }
  if (rows != n) {
    return refuse(fmt::format("segments: {} rows in all; allowed: n {}", rows, n));
  }
  return {};
}

std::string describe(const KernelSpec& spec) { return core::describe_fields(spec); }

}  // namespace lutsmith
