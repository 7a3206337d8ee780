#pragma once

#include <cstddef>
#include <filesystem>
#include <span>

#include "lutsmith/error.h"

namespace lutsmith::cli {

/// Writes a file whole or not at all: to a temporary file beside it, then renamed. Refuses to take the
/// place of anything but a regular file.
Result<void> write_file(const std::filesystem::path& path, std::span<const std::byte> bytes);

}  // namespace lutsmith::cli
