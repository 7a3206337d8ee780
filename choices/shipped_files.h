#pragma once

#include <span>

#include "core/embedded_file.h"

namespace lutsmith {

/// The documents of tuned choices that come with the library (choices/shipped/).
std::span<const EmbeddedFile> shipped_files();

}  // namespace lutsmith
