#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "lutsmith/error.h"
#include "lutsmith/export.h"
#include "lutsmith/fields.h"
#include "lutsmith/target.h"
#include "lutsmith/weight_format.h"

namespace lutsmith {

/// What a kernel computes: `Y[m, n] = sum over k of X[m, k] * weight[n, k]`, the weight being
/// `scale[n, k / group] * table[code[n, k]]`, with offsets plus `offset[n, k / group]`. How it does so is a
/// `Schedule`.
struct KernelSpec {
  WeightFormat format = {};  ///< 1 to 4 bits: fewer than can be packed
  std::int64_t m = 0;  ///< tokens the kernel is made for, see token_bucket; a launch may bring any number
  Target target = {};  ///< a default one: the GPU at hand, where a `Service` is asked
  /// A token's result is the same, bit for bit, whatever the number of tokens of a launch and its place among
  /// them. Slower for few tokens: docs/kernels.md.
  bool batch_invariant = false;

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
    visit(FieldInfo{"dtype", "Activations, output, scales and table", "f16 or bf16", " {}"},
          self.format.dtype);
    visit(FieldInfo{"table", "What a code stands for", "scalar (one value) or pair (two codes: two values)",
                    " {}"},
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
  }
};

/// Numbers of tokens that kernels are made for, so that finitely many kernels serve every number: they are
/// the widths of tiles, twice the widest but one (384 tokens in two tiles of 256 would pay for 512), and then
/// powers of two, as long as how the tiles fill a GPU still depends much on their number.
inline constexpr std::array<std::int64_t, 14> kTokenBuckets{1,   8,   16,  32,  64,   96,   128,
                                                            192, 256, 384, 512, 1024, 2048, 4096};

/// The smallest bucket that holds `m` tokens; the last for more. Specs that differ in `m` within a bucket
/// have the same schedules, and so the same kernel. A number that no spec may have stays as it is.
LUTSMITH_API std::int64_t token_bucket(std::int64_t m);

/// Checks every field: the format, and that kernels multiply its bits. The error names the field, the value
/// given and the values allowed.
LUTSMITH_API Result<void> validate(const KernelSpec& spec);

/// One line for messages and reports, such as "w4 g128 4096x4096 m1 f16 scalar sm_90a".
LUTSMITH_API std::string describe(const KernelSpec& spec);

}  // namespace lutsmith
