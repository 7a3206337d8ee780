#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lutsmith/error.h"
#include "lutsmith/export.h"
#include "lutsmith/kernel_spec.h"

namespace lutsmith {

/// One number in a 16-bit type, rounded to nearest even; and back (exact).
LUTSMITH_API std::uint16_t to_bits(float value, DataType type);
LUTSMITH_API float from_bits(std::uint16_t bits, DataType type);

/// The values behind the codes. Scalar: 2^bits values, value of code c at [c]. Pair: 2 * 2^(2 bits)
/// values; the pair of code c at [2c], [2c + 1], where c = code of the even k + 2^bits * code of the
/// odd k. Values may repeat, be unsorted and have any sign; they must be finite.
struct Table {
  std::string name;  ///< "nf4", "int3", ...; "given" for a caller's own
  int bits = 4;
  TableKind kind = TableKind::scalar;
  std::vector<float> values;
};

/// NormalFloat-b: quantiles of the normal distribution, scaled to [-1, 1], with an exact zero
/// (Dettmers et al., QLoRA, section 3). 2 <= bits <= 8.
LUTSMITH_API Result<Table> normal_float_table(int bits);
/// Symmetric integers: code - 2^(bits - 1). 1 <= bits <= 8.
LUTSMITH_API Result<Table> integer_table(int bits);
/// FP4 (e2m1): 0, .5, 1, 1.5, 2, 3, 4, 6 and their negatives.
LUTSMITH_API Table fp4_table();
/// Any values; checks length and finiteness (both as given and in `dtype`).
LUTSMITH_API Result<Table> given_table(int bits, TableKind kind, std::vector<float> values,
                                       DataType dtype = DataType::fp16);
/// By method name as on the command line: "nf", "int", "fp".
LUTSMITH_API Result<Table> table_by_method(std::string_view method, int bits);

/// Where the packed bytes of a matrix go; independent of any schedule, batch or GPU.
struct PackedFormat {
  int bits = 4;
  int group = 128;  ///< or kPerChannel
  std::int64_t n = 0;
  std::int64_t k = 0;
};

/// Bytes of a packed matrix, padding included (rows to 32, k to 128).
LUTSMITH_API Result<std::size_t> packed_bytes(const PackedFormat& format);
/// Groups of one row: ceil(k / group), 1 for kPerChannel.
LUTSMITH_API std::int64_t groups_per_row(int group, std::int64_t k);

/// A quantized matrix in plain row-major form: what the packer reads and the reference multiplies.
struct QuantizedMatrix {
  PackedFormat format;
  DataType dtype = DataType::fp16;
  TableKind table_kind = TableKind::scalar;
  std::vector<std::uint8_t> codes;    ///< [n, k], each below 2^bits
  std::vector<std::uint16_t> scales;  ///< [n, groups_per_row] in dtype
  std::vector<std::uint16_t> table;   ///< table_length(bits, table_kind) values in dtype
};

/// Round-to-nearest with one scale per group: scale = max |w| / max |table| (rounded to `dtype`),
/// code = the entry (or pair) nearest to w / scale. `weights` is [n, k] row-major and finite.
/// Refuses weights that are not finite (naming the first) and scales beyond the range of `dtype`.
LUTSMITH_API Result<QuantizedMatrix> quantize(std::span<const float> weights, std::int64_t n, std::int64_t k,
                                              const Table& table, int group, DataType dtype);

/// The bytes a kernel reads. Refuses codes, scales or tables of the wrong size or range.
LUTSMITH_API Result<std::vector<std::byte>> pack(const QuantizedMatrix& matrix);

/// Inverse of `pack` for codes and scales, exact; `table` and kinds are the caller's.
LUTSMITH_API Result<QuantizedMatrix> unpack(std::span<const std::byte> packed, const PackedFormat& format,
                                            DataType dtype);

/// scale * table[code] of every weight, [n, k] row-major, in double (exact: the product of two
/// 16-bit floats fits).
LUTSMITH_API Result<std::vector<double>> dequantize(const QuantizedMatrix& matrix);

/// Y = X * dequantize(W)^T in float64. `activations` is [m, k] row-major in matrix.dtype, the result
/// [m, n] row-major.
LUTSMITH_API Result<std::vector<double>> reference_matmul(const QuantizedMatrix& matrix,
                                                          std::span<const std::uint16_t> activations,
                                                          std::int64_t m);

/// ||result - reference|| / ||reference||, Frobenius; infinity where anything is not a number.
LUTSMITH_API double relative_error(std::span<const std::uint16_t> result, std::span<const double> reference,
                                   DataType dtype);

}  // namespace lutsmith
