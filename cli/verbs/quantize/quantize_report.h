#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cli/output/output.h"
#include "cli/verbs/quantize/tensor_plan.h"
#include "cli/verbs/run/layer_kinds.h"

namespace lutsmith::cli {

/// What `quantize` did.
struct QuantizeResult {
  std::string input;
  std::string output;
  LayerSettings settings;  ///< where no rule says otherwise
  std::vector<TensorDecision> decisions;
  std::vector<LayerBytes> layers;
  std::vector<std::string> files;  ///< written to the output folder; empty where the output is one file
  std::uint64_t total_before = 0;  ///< bytes of all tensors, what was left alone included
  std::uint64_t total_after = 0;
};

/// One screen: a line for each kind of layer, what was left alone and why, and the totals. With `all` a line
/// for each layer and each tensor that was left alone.
void print_result(const QuantizeResult& result, bool all);

/// The same, complete.
Json result_json(const QuantizeResult& result);

}  // namespace lutsmith::cli
