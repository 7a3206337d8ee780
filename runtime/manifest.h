#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "lutsmith/codegen.h"
#include "lutsmith/error.h"
#include "lutsmith/service.h"

namespace lutsmith {

/// How a kernel came about.
struct Provenance {
  std::string compiler;          ///< its identity, build included
  std::string options;           ///< one per line
  std::size_t source_bytes = 0;  ///< of the text that was compiled
};

/// The description that goes with a cubin into the cache: what it computes and how, what to launch it
/// with, what it uses, what its digest is and which compiler made it. Everything of `artifact` but the cubin.
std::string write_manifest(const KernelSpec& spec, const Schedule& schedule, const Artifact& artifact,
                           const Provenance& provenance);

/// The artifact described, without cubin. `expected` is what was rendered for the request: key, kernel
/// name and launch recipe must be those, else the entry is another kernel's. Errors: corrupt_data;
/// unsupported for a newer schema.
Result<Artifact> read_manifest(std::string_view manifest, const Artifact& expected);

/// What a manifest says of a kernel that nobody asked for: for those who look after a cache.
struct Description {
  std::string key;
  KernelSpec spec;
  Schedule schedule;
  Provenance provenance;
  std::string kernel_name;
};

/// Errors: corrupt_data where a field is missing, of another type or not allowed; unsupported for a newer
/// schema or an unknown family of kernels.
Result<Description> read_description(std::string_view manifest);

/// The source of a described kernel, rendered anew. Error: unsupported where this version of the library
/// would write another one, so that the key does not match.
Result<Source> source_of(const Description& description);

}  // namespace lutsmith
