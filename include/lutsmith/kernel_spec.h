#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "lutsmith/error.h"
#include "lutsmith/export.h"
#include "lutsmith/fields.h"
#include "lutsmith/target.h"
#include "lutsmith/weight_format.h"

namespace lutsmith {

/// What becomes of pairs of sums: a gated linear unit (Shazeer, "GLU Variants Improve Transformer", 2020).
enum class Gate {
  none,       ///< every row of the weights is an output channel
  silu,       ///< SwiGLU: silu(gate) * up, with silu(g) = g / (1 + exp(-g))
  gelu_tanh,  ///< GeGLU: gelu(gate) * up, with gelu(g) = g / 2 * (1 + tanh(sqrt(2 / pi) * (g + 0.044715 *
              ///< g^3)))
};

LUTSMITH_API std::string_view to_string(Gate gate);           ///< "none", "silu", "gelu_tanh"
LUTSMITH_API Result<Gate> parse_gate(std::string_view name);  ///< Error: invalid_argument

/// The type of Y's elements, and of R's, which may lie in the place of Y.
enum class OutputType {
  same,  ///< as the weights' format says: f16 or bf16
  f16,
  bf16,
  f32,  ///< the sums as they are
};

LUTSMITH_API std::string_view to_string(OutputType type);                  ///< "same", "f16", "bf16", "f32"
LUTSMITH_API Result<OutputType> parse_output_type(std::string_view name);  ///< Error: invalid_argument

/// A format's own type.
constexpr OutputType output_type_of(DataType type) {
  return type == DataType::f16 ? OutputType::f16 : OutputType::bf16;
}

/// Bytes of an element of a type that is not `same`.
constexpr std::size_t element_bytes(OutputType type) { return type == OutputType::f32 ? 4 : 2; }

/// In gated weights, rows of the gate and of what it lets through take turns: 8 of the one, 8 of the other.
/// Row 16 * i + j is row 8 * i + j of the gate, row 16 * i + 8 + j that of the other matrix, for j < 8. Sums
/// of rows 8 apart are in one thread of every kernel, where neighbours would be in two; and every tile has
/// whole such pairs.
inline constexpr std::int64_t kGateRows = 8;

/// What a kernel computes: `Y[m, n] = sum over k of X[m, k] * weight[n, k]`, the weight being
/// `scale[n, k / group] * table[code[n, k]]`, with offsets plus `offset[n, k / group]`; and what is made of
/// these sums, in fp32, before they are rounded to the output's type, once. How it does so is a `Schedule`.
struct KernelSpec {
  WeightFormat format = {};  ///< 1 to 4 bits: fewer than can be packed
  std::int64_t m = 0;  ///< tokens the kernel is made for, see token_bucket; a launch may bring any number
  Target target = {};  ///< a default one: the GPU at hand, where a `Service` is asked
  /// A token's result is the same, bit for bit, whatever the number of tokens of a launch and its place among
  /// them. Slower for few tokens: docs/kernels.md.
  bool batch_invariant = false;
  bool residual = false;  ///< Y = X * W^T + R, R [m, n] of each launch; also in the place of Y
  bool bias = false;      ///< a number for each output channel is added, b [n] of each launch; also beside R
  Gate gated = Gate::none;  ///< Y [m, n / 2] = activation(gate) * up; n a multiple of 16, see kGateRows
  /// Rows come in segments, each with a table of its own: layers that stand below one another, such as q, k
  /// and v. Which rows they have, a launch says; all but the last have a multiple of this number. 0: one
  /// table for all rows.
  int segment_rows = 0;
  /// Y [m, n] in another type than X, such as logits or a residual stream in fp32. What is the format's own
  /// type gives the same kernel as `same`.
  OutputType output = OutputType::same;

  /// Channels of Y: n, or half as many where they are gated.
  constexpr std::int64_t output_channels() const { return gated == Gate::none ? format.n : format.n / 2; }

  /// Of Y and R, never `same`.
  constexpr OutputType output_type() const {
    return output == OutputType::same ? output_type_of(format.dtype) : output;
  }
  /// Whether Y has another type than X.
  constexpr bool converts_output() const { return output_type() != output_type_of(format.dtype); }

  friend bool operator==(const KernelSpec&, const KernelSpec&) = default;

  template <class Self, class Visit>
  static constexpr void visit_fields(Self& self, Visit&& visit) {
    visit(FieldInfo{"bits", "Bits per weight", "1 to 4", "w{}"}, self.format.bits);
    visit(FieldInfo{.name = "group",
                    .meaning = "Weights per scale along K",
                    .allowed = "32, 64, 128, 256, channel",
                    .described = " g{}",
                    .zero = "channel"},
          self.format.group);
    visit(FieldInfo{"n", "Output channels (rows of the weight matrix)", "1 or more", " {}"}, self.format.n);
    visit(FieldInfo{"k", "Input channels", "a multiple of 8", "x{}"}, self.format.k);
    visit(FieldInfo{"m", "Tokens the kernel is made for", "1 or more", " m{}"}, self.m);
    visit(FieldInfo{"dtype", "Activations, scales, table and, by itself, output", "f16 or bf16", " {}"},
          self.format.dtype);
    visit(
        FieldInfo{"table", "What a code stands for",
                  "scalar (one value), pair (two codes: two values) or row (one of its row's values)", " {}"},
        self.format.table);
    visit(FieldInfo{"target", "GPU architecture", "such as sm_90a", " {}"}, self.target);
    visit(FieldInfo{.name = "batch_invariant",
                    .meaning = "A token's result does not depend on the other tokens of a launch",
                    .allowed = "on or off",
                    .described = " batch-invariant",
                    .only_where_set = true},
          self.batch_invariant);
    visit(FieldInfo{.name = "offsets",
                    .meaning = "An offset beside each scale is added to the weights of its group",
                    .allowed = "on or off",
                    .described = " offsets",
                    .only_where_set = true},
          self.format.offsets);
    visit(FieldInfo{.name = "residual",
                    .meaning = "Adds a matrix to the product",
                    .allowed = "on or off",
                    .described = " residual",
                    .only_where_set = true},
          self.residual);
    visit(FieldInfo{.name = "bias",
                    .meaning = "Adds a number to each output channel",
                    .allowed = "on or off",
                    .described = " bias",
                    .only_where_set = true},
          self.bias);
    visit(FieldInfo{.name = "gated",
                    .meaning = "Activation of the gates whose rows alternate with others, 8 by 8",
                    .allowed = "none, silu or gelu_tanh",
                    .described = " gated {}",
                    .only_where_set = true},
          self.gated);
    visit(FieldInfo{.name = "segment_rows",
                    .meaning = "Rows come in segments of multiples of so many, each with its own table",
                    .allowed = "0 (one table), 16, 32, 64, 128, 256",
                    .described = " segments of {}",
                    .only_where_set = true},
          self.segment_rows);
    visit(FieldInfo{.name = "output",
                    .meaning = "Type of Y, and of a matrix that is added",
                    .allowed = "same (as dtype), f16, bf16, f32",
                    .described = " output {}",
                    .option = "output-type",  // --output names a file
                    .only_where_set = true},
          self.output);
  }
};

/// Segments a launch may have, of a spec with segment_rows.
inline constexpr int kMostSegments = 4;

/// What segments of rows are multiples of, ascending.
inline constexpr std::array<int, 5> kSegmentRows{16, 32, 64, 128, 256};

/// Numbers of tokens that kernels are made for, so that finitely many kernels serve every number: they are
/// the widths of tiles, twice the widest but one (384 tokens in two tiles of 256 would pay for 512), and then
/// powers of two, as long as how the tiles fill a GPU still depends much on their number.
inline constexpr std::array<std::int64_t, 14> kTokenBuckets{1,   8,   16,  32,  64,   96,   128,
                                                            192, 256, 384, 512, 1024, 2048, 4096};

/// The spec of the kernel that makes the same sums with one table and leaves them as they are, in 16 bits.
/// What was tuned for the one serves the other; with segment_rows only where its tiles fit, which validate()
/// says.
LUTSMITH_API KernelSpec without_epilogue(KernelSpec spec);

/// What the spec makes of its sums, and whether rows come in segments, in a few words such as "residual,
/// bias" or "silu gates, f32 output"; empty where it is without_epilogue.
LUTSMITH_API std::string describe_epilogue(const KernelSpec& spec);

/// The smallest bucket that holds `m` tokens; the last for more. Specs that differ in `m` within a bucket
/// have the same schedules, and so the same kernel. A number that no spec may have stays as it is.
LUTSMITH_API std::int64_t token_bucket(std::int64_t m);

/// Checks every field: the format, and that kernels multiply its bits. The error names the field, the value
/// given and the values allowed.
LUTSMITH_API Result<void> validate(const KernelSpec& spec);

/// Checks what is made of the sums alone, with the format's n and dtype.
LUTSMITH_API Result<void> validate_epilogue(const KernelSpec& spec);

/// Checks segment_rows against what else the spec says.
LUTSMITH_API Result<void> validate_segment_rows(const KernelSpec& spec);

/// Checks the rows of segments of a matrix with n rows: one to kMostSegments, all but the last a multiple of
/// `segment_rows`, n in all. Errors: invalid_argument, naming the field.
LUTSMITH_API Result<void> validate_segments(std::span<const std::int64_t> segments, int segment_rows,
                                            std::int64_t n);

/// One line for messages and reports, such as "w4 g128 4096x4096 m1 f16 scalar sm_90a".
LUTSMITH_API std::string describe(const KernelSpec& spec);

}  // namespace lutsmith
