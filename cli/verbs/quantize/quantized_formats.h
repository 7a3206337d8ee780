#pragma once

#include <map>
#include <string>
#include <string_view>

#include "lutsmith/safetensors.h"

namespace lutsmith::cli {

/// A way in which checkpoints hold weights that were quantized before.
struct QuantizedFormat {
  std::string_view name;    ///< "GPTQ", "fp8"
  std::string_view advice;  ///< what to give instead, as an order: "give the ..."
};

/// Every tensor that is part of a layer quantized already, its scales, zero points and tables included: such
/// tensors are copied whatever is asked for, since quantizing them again would lose the weights.
std::map<std::string, QuantizedFormat> quantized_tensors(const std::map<std::string, TensorInfo>& tensors);

}  // namespace lutsmith::cli
