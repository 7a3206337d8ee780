#pragma once

#include <cstdint>
#include <vector>

#include "cli/output/output.h"
#include "cli/verbs/run/run_layers.h"

namespace lutsmith::cli {

/// {"m", "device", "layers"}, and "epilogue" where the kernels make something of their sums.
Json run_json(const std::vector<LayerResult>& results, const RunPlan& plan, std::int64_t m);

/// A screenful: what there is of each kind of layer and in total, then by name the layers that are wrong or
/// special. With `all` a line per layer and kernel in place of the kinds.
void print_run(const std::vector<LayerResult>& results, const RunPlan& plan, std::int64_t m, bool all);

}  // namespace lutsmith::cli
