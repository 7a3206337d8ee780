#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "lutsmith/safetensors.h"
#include "lutsmith/weight_format.h"

namespace lutsmith::cli {

/// X of one multiplication, [m, k] row-major in 16-bit floats, and where its values came from.
struct Activations {
  std::string source;  ///< "gaussian" or the name of the tensor its rows are from
  std::string note;    ///< why it is not the tensor that one would expect; else empty
  std::vector<std::uint16_t> values;
};

/// Normally distributed numbers from a fixed seed.
Activations gaussian_activations(std::int64_t m, std::int64_t k, DataType dtype, std::string note);

/// Where activations for `run` come from: rows of a matrix where one is as wide as the layer, else
/// normally distributed numbers.
class ActivationSource {
 public:
  /// `checkpoint` is the packed one: its embedding table serves, where one is as wide as some layer; of its
  /// rows those that are not finite or all zero are passed over. `choice` is FILE.safetensors:TENSOR, and
  /// takes the table's place where it is not empty; nothing of it is passed over. `widths` are those of the
  /// layers. Errors of code invalid_argument where `choice` is no such matrix or as wide as no layer.
  static Result<ActivationSource> open(const Checkpoint& checkpoint, const std::string& choice,
                                       std::int64_t m, std::span<const std::int64_t> widths);

  /// X for m tokens; the same values for the same arguments. An error names the row that was asked for by
  /// name and cannot serve.
  Result<Activations> make(std::int64_t k, DataType dtype);

  /// Whether a tensor was asked for by name.
  bool asked() const { return asked_; }
  /// Tokens.
  std::int64_t m() const { return m_; }

 private:
  struct Matrix {
    std::string name;
    TensorInfo tensor;
    SafetensorsFile file;
  };
  using Row = std::vector<std::uint16_t>;

  explicit ActivationSource(std::int64_t m) : m_(m) {}
  Result<Row> row(std::int64_t index, DataType dtype) const;
  Result<std::vector<std::int64_t>> choose_rows(DataType dtype) const;
  Result<void> check_rows(std::span<const std::int64_t> rows, DataType dtype) const;

  std::int64_t m_;
  bool asked_ = false;
  std::optional<Matrix> matrix_;
  std::map<DataType, std::vector<std::int64_t>> rows_;  // what choose_rows gave; empty: none can serve
};

}  // namespace lutsmith::cli
