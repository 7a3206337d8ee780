#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "cli/verbs/quantize/tensor_plan.h"
#include "lutsmith/safetensors.h"

namespace lutsmith::cli {

/// How much the squared error of each input channel counts: --importance. A file with a tensor [k] of a
/// floating type for every tensor that is quantized, under the same name; the experts of a stack share
/// theirs.
class Importance {
 public:
  /// Without a path all channels count alike. Errors: those of SafetensorsFile::open; invalid_argument where
  /// the file lacks a tensor, or has it in another shape, and where no scale is searched, so that it would
  /// change nothing.
  static Result<Importance> open(const std::string& path, std::span<const TensorDecision> decisions);

  /// Of a tensor that is quantized, k values, or none where all count alike.
  [[nodiscard]] Result<std::vector<float>> of(const TensorDecision& decision) const;

 private:
  std::optional<SafetensorsFile> file_;
};

}  // namespace lutsmith::cli
