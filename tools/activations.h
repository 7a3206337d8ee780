#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint.h"
#include "lutsmith/kernel_spec.h"
#include "lutsmith/safetensors.h"

namespace lutsmith::tools {

/// X of one multiplication, [m, k] row-major in 16-bit floats, and where its values came from.
struct Activations {
  std::string source;  ///< "gaussian" or the name of the tensor its rows are from
  std::vector<std::uint16_t> values;
};

/// Where activations for `run` come from: rows of a matrix where one is as wide as the layer, else
/// normally distributed numbers from a fixed seed.
class ActivationSource {
 public:
  /// `checkpoint` is the packed one: its embedding table serves, where it has one. `choice` is
  /// FILE.safetensors:TENSOR, and takes its place where it is not empty.
  static Result<ActivationSource> open(const Checkpoint& checkpoint, const std::string& choice);

  /// The same values for the same arguments.
  Result<Activations> make(std::int64_t m, std::int64_t k, DataType dtype) const;

 private:
  struct Matrix {
    std::string name;
    TensorInfo tensor;
    SafetensorsFile file;
  };

  std::optional<Matrix> matrix_;
};

}  // namespace lutsmith::tools
