#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lutsmith/error.h"
#include "lutsmith/export.h"
#include "lutsmith/float16.h"
#include "lutsmith/kernel_spec.h"
#include "lutsmith/weight_format.h"

namespace lutsmith {

/// The values behind the codes. Scalar: 2^bits values, value of code c at [c]. Pair: 2 * 2^(2 bits)
/// values; the pair of code c at [2c], [2c + 1], where c = code of the even k + 2^bits * code of the
/// odd k. Row: 2^bits values for each row of a matrix, those of one row behind another's. Values may repeat,
/// be unsorted and have any sign; they must be finite.
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
/// The levels that give the normal distribution of variance 1 the least mean squared error (Lloyd, Least
/// squares quantization in PCM, 1982; Max, Quantizing for minimum distortion, 1960, table I). Of 4 levels
/// -1.5104, -.4528, .4528, 1.5104. 1 <= bits <= 8. For scales by ScaleChoice::mse: no entry is meant for the
/// largest weight of a group.
LUTSMITH_API Result<Table> lloyd_max_table(int bits);
/// Any values; checks length and finiteness (both as given and in `dtype`).
LUTSMITH_API Result<Table> given_table(int bits, TableKind kind, std::vector<float> values,
                                       DataType dtype = DataType::f16);
/// By method name as on the command line: "nf", "int", "fp", "lloyd". ("kmeans" is learn_table.)
LUTSMITH_API Result<Table> table_by_method(std::string_view method, int bits);

/// Groups of one row: ceil(k / group), 1 for kPerChannel.
LUTSMITH_API std::int64_t groups_per_row(int group, std::int64_t k);

/// A quantized matrix in plain row-major form: what the packer reads and the reference multiplies.
struct QuantizedMatrix {
  WeightFormat format;
  std::vector<std::uint8_t> codes;          ///< [n, k], each below 2^bits
  std::vector<std::uint16_t> scales;        ///< [n, groups_per_row] in format.dtype
  std::vector<std::uint16_t> table;         ///< table_values(format) values in format.dtype
  std::vector<std::uint16_t> offsets = {};  ///< as scales; none unless format.offsets
  /// Rows of each segment with a table of its own, n in all; `table` then has a table of each, one behind
  /// another. None: one table for all rows. Packed bytes are the same.
  std::vector<std::int64_t> segments = {};
};

/// What quantizing cost, added up over the rows given so far. Energies are sums of squares.
struct QuantizationLoss {
  std::int64_t rows = 0;      ///< given so far: the next slab's first row, from which errors count theirs
  double weights = 0;         ///< energy of the weights
  double error = 0;           ///< energy of quantized - given
  double scale_rounding = 0;  ///< what of `error` would not be there with scales that are not rounded

  /// The group that loses most by the rounding of its scale, for messages.
  struct Group {
    std::int64_t row = 0;
    std::int64_t first_column = 0;
    std::int64_t last_column = 0;
    double exact_scale = 0;
    float stored_scale = 0;
    double scale_rounding = 0;  ///< 0: there is none
  };
  Group worst = {};

  /// ||quantized - given|| / ||given||, Frobenius; 0 where every weight is 0.
  LUTSMITH_API double relative_error() const;
  /// Adds the loss of other rows of the same matrix. `rows` becomes the larger of the two.
  LUTSMITH_API void add(const QuantizationLoss& other);
};

/// How the scale of a group is chosen.
enum class ScaleChoice {
  absmax,  ///< it lays the largest weight on the table's largest entry
  mse,     ///< of a grid around that one, the scale with the least squared error
  rms,     ///< the root mean square of its weights, for tables that are made for weights of variance 1
};

LUTSMITH_API std::string_view to_string(ScaleChoice choice);  ///< "absmax", "mse", "rms"
/// Inverse of to_string; invalid_argument for any other name.
LUTSMITH_API Result<ScaleChoice> parse_scale_choice(std::string_view name);
/// What is taken with a method's table where the caller does not say: mse for "lloyd" and "kmeans", whose
/// entries are where weights are and not where the largest is; absmax for all others.
LUTSMITH_API ScaleChoice usual_scale_choice(std::string_view method);

struct QuantizationOptions {
  ScaleChoice scales = ScaleChoice::absmax;
  /// With mse, how often the squared error of an input channel counts, [k], such as the mean of its squared
  /// activations: none negative, all finite; empty: all alike. Of a pair table it decides about codes too.
  std::span<const float> importance = {};
};

/// Round-to-nearest with one scale per group. With ScaleChoice::absmax |scale| = max |w| / max |table|,
/// rounded to `dtype`; code = the entry (or pair) nearest to w / scale. `weights` is [n, k] row-major and
/// finite.
///
/// Sign of the scale: where the most negative and the most positive entry differ in magnitude (int-b:
/// -2^(b-1) to 2^(b-1) - 1), it is such that the group's largest weight and the table's largest entry fall on
/// each other: without that a largest weight of the other sign would be clipped, with int2 to the half. Where
/// the entries reach equally far both ways (nf, fp), and for weights that do, scales are positive. Of a pair
/// table both components count alike.
///
/// With ScaleChoice::mse the scale is that of 27 multiples from 1/20 to 6/5 of it, with both signs unless
/// the table is symmetric, that has the least sum over the group of importance * (scale * entry - w)^2; from
/// there on it and the codes take turns as long as that gains (of given codes the best scale is the sum of
/// importance * w * entry over that of importance * entry^2). Scales are compared after rounding, and no
/// group has a larger error than with absmax.
///
/// With ScaleChoice::rms it is ||w|| / sqrt(n) of the n weights of the group (Malinovskii et al., Pushing the
/// Limits of Large Language Model Quantization via the Linearity Theorem, 2024, algorithm 1).
///
/// With TableKind::row each row is quantized with its own table, as a matrix of one row.
///
/// Refuses weights that are not finite (naming the first), scales beyond the range of `dtype`, and what
/// check_loss refuses.
LUTSMITH_API Result<QuantizedMatrix> quantize(std::span<const float> weights, std::int64_t n, std::int64_t k,
                                              const Table& table, int group, DataType dtype,
                                              const QuantizationOptions& options = {});

/// The same for rows of a larger matrix, which starts at `loss.rows`; adds to `loss`. Does not call
/// check_loss: that is for the caller to do when all rows were given.
LUTSMITH_API Result<QuantizedMatrix> quantize(std::span<const float> weights, std::int64_t n, std::int64_t k,
                                              const Table& table, int group, DataType dtype,
                                              QuantizationLoss& loss,
                                              const QuantizationOptions& options = {});

struct LearningOptions {
  std::span<const float> importance = {};  ///< as of QuantizationOptions
  int rounds = 12;                         ///< the most tables to be tried, 1 or more
  unsigned jobs = 1;  ///< threads; the result does not depend on them. 0: one for each core
};

struct LearnedTable {
  Table table;  ///< "kmeans4": scalar, ascending, the largest magnitude 1
  /// Sums of importance * (scale * entry - w)^2: with the table that learning began with, then with each that
  /// was better than the one before; the last is that of `table`.
  std::vector<double> errors;
};

/// A table for these weights, [n, k]: k-means of weights over the scale of their group. Table and scales take
/// turns until that gains less than 1/2000 of the error: of given scales the best table (k-means of one
/// dimension is solved exactly, by dynamic programming; Wang and Song, Ckmeans.1d.dp, 2011; over a histogram
/// of 8192 bins), of a given table the scales of ScaleChoice::mse. Begins with NormalFloat or Lloyd's levels,
/// whichever has the smaller error, and never ends with more than that. 1 <= bits <= 8. A weight counts as
/// often as importance * scale^2 says, so that what is minimized is the error of the matrix.
///
/// For what quantize() with ScaleChoice::mse and the same importance is then to be given. Errors: those of
/// quantize.
LUTSMITH_API Result<LearnedTable> learn_table(std::span<const float> weights, std::int64_t n, std::int64_t k,
                                              int bits, int group, DataType dtype,
                                              const LearningOptions& options = {});

/// Rows that stand for a matrix [n, k] when a table is learned: evenly spaced, all where they are at most
/// 2^20 weights.
LUTSMITH_API std::vector<std::int64_t> learning_rows(std::int64_t n, std::int64_t k);

/// Refuses a matrix that lost its values below the range of `dtype`, naming the group that lost most. Scales
/// below the smallest normal number (2^-14 in f16) have fewer digits the smaller they are, and in the end
/// are 0. The criterion is the whole matrix, and what its quantization costs anyway: refused is what has more
/// than 9/8 of the error (relative, Frobenius) that scales without rounding would give, and 1/32 of the norm
/// more in quadrature. So rows of 1e-9 in a matrix of usual weights (padding, dead channels) become 0 and are
/// no reason to refuse it, while a layer of nothing else is. Normal weights in groups of 64 pass in f16 from
/// a standard deviation of 5e-8 on with nf4, of 4e-7 with int4.
LUTSMITH_API Result<void> check_loss(const QuantizationLoss& loss, DataType dtype);

/// The bytes a kernel reads. Refuses codes, scales, offsets or tables of the wrong size or range.
LUTSMITH_API Result<std::vector<std::byte>> pack(const QuantizedMatrix& matrix);

/// Inverse of `pack` for codes, scales, offsets and tables of rows, exact; the values of another `table`,
/// which packed bytes do not have, are the caller's to fill in.
LUTSMITH_API Result<QuantizedMatrix> unpack(std::span<const std::byte> packed, const WeightFormat& format);

/// scale * table[code] of every weight, [n, k] row-major, in double (exact: the product of two
/// 16-bit floats fits); with offsets the sum of that and the offset, rounded to double.
LUTSMITH_API Result<std::vector<double>> dequantize(const QuantizedMatrix& matrix);

/// Y = X * dequantize(W)^T in float64. `activations` is [m, k] row-major in format.dtype, the result
/// [m, n] row-major.
LUTSMITH_API Result<std::vector<double>> reference_matmul(const QuantizedMatrix& matrix,
                                                          std::span<const std::uint16_t> activations,
                                                          std::int64_t m);

/// What a kernel makes of its sums: of a spec with a bias, a residual or gates (see KernelSpec).
struct ReferenceEpilogue {
  Gate gated = Gate::none;
  std::span<const std::uint16_t> bias = {};  ///< b [n]; none where it is empty
  std::span<const float> residual = {};      ///< R [m, n], row-major, whatever its type; likewise
};

/// The product [m, n] of reference_matmul with its epilogue, in float64: [m, n], or gated [m, n / 2]. Errors:
/// invalid_argument for what no kernel does, and for spans of another length.
LUTSMITH_API Result<std::vector<double>> reference_epilogue(std::vector<double> product,
                                                            const WeightFormat& format,
                                                            const ReferenceEpilogue& epilogue);

/// ||result - reference|| / ||reference||, Frobenius; infinity where anything is not a number.
LUTSMITH_API double relative_error(std::span<const std::uint16_t> result, std::span<const double> reference,
                                   DataType dtype);
/// The same of elements of any type, which floats hold exactly.
LUTSMITH_API double relative_error(std::span<const float> result, std::span<const double> reference);

/// Largest relative error of a product that is right, where no result is below the normal range of `dtype`:
/// 2.0e-3 for f16, 1.1e-2 for bf16. Products are summed in fp32, and the result is rounded.
LUTSMITH_API double allowed_relative_error(DataType dtype);
/// Of a spec's kernel: that of its dtype, in which weights may have been rounded, or of its output's type,
/// whichever is larger.
LUTSMITH_API double allowed_relative_error(const KernelSpec& spec);

/// How far a product is from float64, in units of the rounding of its type too.
struct ProductError {
  /// Frobenius, over the elements that are finite in both; 0 where there is none.
  double relative_error = 0;
  /// What relative_error may be: allowed_relative_error and, of results in the subnormal range, half a unit
  /// of the last place each, which no kernel can avoid (0 where the reference has none).
  double allowed_error = 0;
  /// Largest |result - reference| of those elements in units of the type's last place at the reference (of
  /// subnormals: their spacing). 0.5 and less is rounding alone. To be shown, not to be judged by: sums that
  /// cancel lose more.
  double largest_ulps = 0;
  std::int64_t overflowed = 0;      ///< right: the reference is beyond the range, the result its infinity
  std::int64_t wrong_overflow = 0;  ///< wrong: an infinity without that, or none where there must be one
  std::int64_t not_a_number = 0;    ///< wrong: the result or the reference is no number
  std::int64_t nonzero = 0;         ///< references that do not round to 0: without any, nothing is tested

  /// Every element is the reference as far as rounding and fp32 sums explain.
  LUTSMITH_API bool right() const;
};

/// Compares a product with float64. Beyond the range is what rounds to infinity; within
/// allowed_relative_error of where that begins, either is right. Spans of different length: relative_error is
/// infinite.
LUTSMITH_API ProductError product_error(std::span<const std::uint16_t> result,
                                        std::span<const double> reference, DataType dtype);
/// The same of what a spec's kernel wrote, elements of its output_type(), which floats hold exactly.
LUTSMITH_API ProductError product_error(std::span<const float> result, std::span<const double> reference,
                                        const KernelSpec& spec);

}  // namespace lutsmith
