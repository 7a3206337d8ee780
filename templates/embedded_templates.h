#pragma once

#include <span>

#include "core/embedded_file.h"

namespace lutsmith {

/// All of templates/, named as they are included.
std::span<const EmbeddedFile> embedded_templates();

}  // namespace lutsmith
