#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "lutsmith/lutsmith.h"

namespace lutsmith::test {

/// What the values of a look-up table look like.
enum class TableStyle {
  random,      ///< arbitrary signs and sizes, unsorted
  zeros,       ///< every other value is zero
  duplicates,  ///< only two different values
  extremes,    ///< the largest finite values next to the smallest ones
  subnormal,   ///< nothing but subnormal numbers
};

struct ProblemOptions {
  TableStyle table = TableStyle::random;
  std::uint64_t seed = 1;
};

/// One multiplication with random codes, scales of both signs, table and activations, and what it should
/// give.
struct Problem {
  QuantizedMatrix matrix;
  std::vector<std::byte> packed;
  std::int64_t m = 1;
  std::vector<std::uint16_t> activations;  ///< [m, k]
  Gate gated = Gate::none;
  std::vector<std::uint16_t> bias;      ///< [n], of a spec that has one
  std::vector<float> residual;          ///< [m, n], likewise, as elements of the output
  OutputType output = OutputType::f16;  ///< of the result, never `same`

  /// What a launch brings: none where the packed bytes have tables.
  std::span<const std::uint16_t> launched_table() const {
    return matrix.format.row_tables() ? std::span<const std::uint16_t>{} : matrix.table;
  }
  std::int64_t n() const { return matrix.format.n; }
  std::int64_t channels() const { return gated == Gate::none ? n() : n() / 2; }  ///< of the result
  std::int64_t k() const { return matrix.format.k; }
};

Problem make_problem(const KernelSpec& spec, std::int64_t m, const ProblemOptions& options = {});

/// Normal weights, quantized to symmetric integers: about half of the scales are negative.
/// `spec.format.table` is scalar.
Problem make_integer_problem(const KernelSpec& spec, std::int64_t m, std::uint64_t seed = 1);

/// The same weights for rows `first` .. `first + m` of a k x k identity matrix.
void set_identity_rows(Problem& problem, std::int64_t first, std::int64_t m);

/// A residual, of a problem that has one, that leaves nothing of the sums but what 16 bits cannot hold: a sum
/// that is rounded before it is added gives zero.
void oppose_sums(Problem& problem);

/// Rounds a residual to what every type of output has, so that kernels that differ in it add the same.
void share_residual(Problem& problem);

/// Packs again after a test has changed codes or scales.
void repack(Problem& problem);

/// Largest relative error that rounding explains.
double tolerance(DataType dtype);

/// The same of a spec's kernel: of one that rounds nothing but its sums, to fp32 at that, next to nothing.
double tolerance(const KernelSpec& spec);

/// What the problem should give: [m, channels], in float64.
std::vector<double> reference_of(const Problem& problem);

/// Relative error of a result [m, channels] against that.
double error_of(const Problem& problem, const std::vector<std::byte>& result);
double error_of(const Problem& problem, const std::vector<std::uint16_t>& result);

}  // namespace lutsmith::test
