#pragma once

#include <span>
#include <string_view>

namespace lutsmith {

/// A file of the project, embedded into the library at build time.
struct EmbeddedFile {
  std::string_view name;  ///< as it is included: "templates/stream_k.cuh"
  std::string_view text;
};

/// All of templates/.
std::span<const EmbeddedFile> embedded_templates();

}  // namespace lutsmith
