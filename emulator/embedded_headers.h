#pragma once

#include "templates/embedded_templates.h"

namespace lutsmith {

/// What is compiled in front of an emitted source: all of emulator/device/.
std::span<const EmbeddedFile> embedded_emulator_headers();

}  // namespace lutsmith
