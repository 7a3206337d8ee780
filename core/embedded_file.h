#pragma once

#include <string_view>

namespace lutsmith {

/// A file of the project, embedded into the library at build time.
struct EmbeddedFile {
  std::string_view name;  ///< its path in the project: "templates/stream_k.cuh"
  std::string_view text;
};

}  // namespace lutsmith
