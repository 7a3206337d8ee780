#pragma once

#include <string>

#include "lutsmith/error.h"

namespace lutsmith {

/// What tells one build of a loaded library from the next, patches of one release included.
struct BuildIdentity {
  std::string path;  ///< of the library
  std::string id;    ///< "build-id HEX" from its GNU note, else "sha256 HEX" of the file
};

/// Of the loaded library that holds `address`.
Result<BuildIdentity> build_identity_of(const void* address);

}  // namespace lutsmith
