#pragma once

#include <filesystem>
#include <span>
#include <vector>

#include "checkpoint/packed_file.h"
#include "cli/output/progress.h"
#include "cli/verbs/quantize/importance.h"
#include "cli/verbs/quantize/tensor_plan.h"
#include "cli/verbs/run/layer_kinds.h"
#include "lutsmith/safetensors.h"

namespace lutsmith::cli {

/// The matrices of a tensor that is quantized: the tensor itself, or one for each expert, named NAME.0,
/// NAME.1, ...
std::vector<PackedLayer> packed_layers(const TensorDecision& decision);

/// What becomes of a tensor in the file that is written. Errors: those of packed_bytes, naming the layer;
/// none where the decision is that of a plan.
Result<std::vector<TensorToWrite>> written_tensors(const TensorDecision& decision);

/// Writes one file: the decisions' tensors, quantized or copied from `input`, by slabs of rows, `jobs` at a
/// time, so that neither the file nor a tensor of it has to fit into memory. Nothing remains of it where any
/// of it fails: the first failure ends the work. `progress` gets one piece for each quantized tensor.
Result<std::vector<LayerBytes>> quantize_shard(const SafetensorsFile& input,
                                               std::span<const TensorDecision> decisions,
                                               const Importance& importance,
                                               const std::filesystem::path& output, unsigned jobs,
                                               Progress& progress);

}  // namespace lutsmith::cli
