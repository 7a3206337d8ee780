#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "lutsmith/error.h"
#include "lutsmith/export.h"
#include "lutsmith/target.h"

namespace lutsmith {

/// Type of activations, output, scales and table entries. Sums are always fp32.
enum class DataType { fp16, bf16 };

/// How a code becomes a weight.
enum class TableKind {
  scalar,  ///< 2^bits values, one weight per code
  pair,    ///< 2^(2 * bits) pairs of values, two weights that are neighbours along K per code
};

LUTSMITH_API std::string_view to_string(DataType type);   ///< "f16", "bf16"
LUTSMITH_API std::string_view to_string(TableKind kind);  ///< "scalar", "pair"
LUTSMITH_API Result<DataType> parse_data_type(std::string_view name);
LUTSMITH_API Result<TableKind> parse_table_kind(std::string_view name);

/// `KernelSpec::group` of a matrix with one scale per output channel (row).
inline constexpr int kPerChannel = 0;

/// "channel" for kPerChannel, else the number; and back.
LUTSMITH_API std::string group_name(int group);
LUTSMITH_API Result<int> parse_group(std::string_view name);

/// What a kernel computes: `Y[m, n] = sum over k of X[m, k] * scale[n, k / group] * table[code[n, k]]`.
/// How it does so is a `Schedule`.
struct KernelSpec {
  int bits = 4;        ///< bits per code: 2, 3 or 4
  int group = 128;     ///< weights per scale along K: 32, 64, 128, 256 or kPerChannel
  std::int64_t n = 0;  ///< output channels, any positive number
  std::int64_t k = 0;  ///< input channels, a positive multiple of 8
  std::int64_t m = 1;  ///< tokens the kernel is tuned for, see token_bucket; a launch may bring any number
  DataType dtype = DataType::fp16;
  TableKind table = TableKind::scalar;
  Target target = {};

  friend bool operator==(const KernelSpec&, const KernelSpec&) = default;
};

/// Numbers of tokens that kernels are tuned for, so that finitely many kernels serve every number: up to 16
/// by the width of a tile, then by powers of two.
inline constexpr std::array<std::int64_t, 7> kTokenBuckets{1, 8, 16, 32, 64, 128, 256};

/// The smallest bucket that holds `m` tokens; the last for more. Specs that differ in `m` within a bucket
/// have the same schedules, and so the same kernel. A number that no spec may have stays as it is.
LUTSMITH_API std::int64_t token_bucket(std::int64_t m);

/// Checks every field. The error names the field, the value given and the values allowed.
LUTSMITH_API Result<void> validate(const KernelSpec& spec);

/// Values in the table of such a spec: 2^bits, or 2 * 2^(2 * bits) for pairs.
LUTSMITH_API int table_length(int bits, TableKind kind);

/// One line for messages and reports, such as "w4 g128 4096x4096 m1 f16 scalar sm_90a".
LUTSMITH_API std::string describe(const KernelSpec& spec);

}  // namespace lutsmith
