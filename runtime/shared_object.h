#pragma once

#include <string>

#include "lutsmith/error.h"

namespace lutsmith {

/// Whether a file may be handed to the loader: a shared library for this machine, all of it there. The loader
/// maps what the headers promise, so that a file which was cut off ends the process (SIGBUS) where an error
/// belongs. Headers, segments, sections and the dynamic section are looked at; code, data and relocations are
/// not, so damage there is not found.
/// Errors, without the path: not_found, io_error, unsupported (another machine's), corrupt_data.
Result<void> check_shared_object(const std::string& path);

}  // namespace lutsmith
