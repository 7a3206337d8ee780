#pragma once

#include <string>
#include <string_view>

#include "lutsmith/codegen.h"
#include "lutsmith/error.h"
#include "lutsmith/service.h"

namespace lutsmith {

/// The description that goes with a cubin into the cache: what it computes and how, what to launch it
/// with, what it uses and which compiler made it. Everything of `artifact` but the cubin.
std::string write_manifest(const KernelSpec& spec, const Schedule& schedule, const Artifact& artifact,
                           std::string_view compiler);

/// The artifact described, without cubin. `expected` is what was rendered for the request: key, kernel
/// name and launch recipe must be those, else the entry is another kernel's. Error: corrupt_data.
Result<Artifact> read_manifest(std::string_view manifest, const Artifact& expected);

}  // namespace lutsmith
