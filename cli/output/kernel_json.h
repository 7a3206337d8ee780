#pragma once

#include "cli/options/spec_request.h"
#include "cli/output/output.h"
#include "lutsmith/codegen.h"
#include "lutsmith/kernel_spec.h"

namespace lutsmith::cli {

/// A group as it stands in a spec: a number, or "channel".
Json group_json(int group);
/// A spec with the field names a manifest uses, so that it can be handed back to `warm`.
Json to_json(const KernelSpec& spec);
Json to_json(const Schedule& schedule);
Json to_json(const LaunchRecipe& launch);

/// {"model", "tp", "layer", "count"} of a request that came from a model, else an empty object.
Json model_fields(const KernelRequest& request);

/// "llama3.1-8b qkv", with " tp2" where it is split; empty where the shape came from --n and --k.
std::string layer_label(const KernelRequest& request);

}  // namespace lutsmith::cli
