#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "lutsmith/error.h"
#include "lutsmith/export.h"

namespace lutsmith {

/// Type of activations, scales, table entries and, unless a spec names another, output. Sums are always fp32.
enum class DataType {
  f16,   ///< IEEE binary16
  bf16,  ///< bfloat16
};

/// How a code becomes a weight.
enum class TableKind {
  scalar,  ///< 2^bits values, one weight per code
  pair,    ///< 2^(2 * bits) pairs of values, two weights that are neighbours along K per code
  row,     ///< 2^bits values for each row, in the packed bytes: a launch brings no table
};

LUTSMITH_API std::string_view to_string(DataType type);                ///< "f16", "bf16"
LUTSMITH_API std::string_view to_string(TableKind kind);               ///< "scalar", "pair", "row"
LUTSMITH_API Result<DataType> parse_data_type(std::string_view name);  ///< "fp16" is another name of "f16"
LUTSMITH_API Result<TableKind> parse_table_kind(std::string_view name);

/// `WeightFormat::group` of a matrix with one scale per output channel (row).
inline constexpr int kPerChannel = 0;

/// "channel" for kPerChannel, else the number; and back.
LUTSMITH_API std::string group_name(int group);
LUTSMITH_API Result<int> parse_group(std::string_view name);

/// A matrix of quantized weights, [n, k]: `weight[n, k] = scale[n, k / group] * table[code[n, k]]`, with
/// `offsets` plus `offset[n, k / group]`, with TableKind::row `table[n][code[n, k]]`. Where the packed bytes
/// go and how many there are follows from it alone, whatever the schedule, batch or GPU.
struct WeightFormat {
  int bits = 4;        ///< bits per code: 1 to 8
  int group = 128;     ///< weights per scale along K: 32, 64, 128, 256 or kPerChannel
  std::int64_t n = 0;  ///< output channels (rows), any positive number
  std::int64_t k = 0;  ///< input channels (columns), a positive multiple of 8
  DataType dtype = DataType::f16;
  TableKind table = TableKind::scalar;
  bool offsets = false;  ///< an offset beside each scale, in dtype: what codes with zero points need

  /// Whether each row has a table of its own, among the packed bytes.
  constexpr bool row_tables() const { return table == TableKind::row; }

  friend bool operator==(const WeightFormat&, const WeightFormat&) = default;
};

/// Checks every field of what can be packed, unpacked and multiplied by the reference. The error names the
/// field, the value given and the values allowed. What kernels multiply is less: see validate(KernelSpec).
LUTSMITH_API Result<void> validate(const WeightFormat& format);

/// Bytes of such a matrix when it is packed, padding included (rows to 32, k to 128). Errors: those of
/// validate.
LUTSMITH_API Result<std::size_t> packed_bytes(const WeightFormat& format);

/// Values in a table: 2^bits, or 2 * 2^(2 * bits) for pairs.
LUTSMITH_API int table_length(int bits, TableKind kind);

/// Values in all tables of such a matrix: those of one, or of one for each row.
LUTSMITH_API std::size_t table_values(const WeightFormat& format);

/// Values in the table that a launch brings: none where the packed bytes have tables.
LUTSMITH_API int launched_table_length(const WeightFormat& format);

}  // namespace lutsmith
