#pragma once

#include <string>
#include <string_view>

#include "lutsmith/error.h"

namespace lutsmith {

/// Whether a file may be handed to the loader: a shared library for this machine, all of it there. The loader
/// maps what the headers promise, so that a file which was cut off ends the process (SIGBUS) where an error
/// belongs. Headers, segments, sections and the dynamic section are looked at; code, data and relocations are
/// not, so damage there is not found.
/// Errors, without the path: not_found, io_error, unsupported (another machine's), corrupt_data.
Result<void> check_shared_object(const std::string& path);

/// The same for what the loader will open under a name: the file itself where the name has a '/', else the
/// first of that name in `search_path`, as LD_LIBRARY_PATH has it, that is for this machine (the loader
/// passes over others too). Its own cache, run paths and system folders are not looked at: what a package
/// manager put there is whole, and where it lies only the loader knows. Errors name the file where the name
/// does not.
Result<void> check_library(const std::string& name, std::string_view search_path);
Result<void> check_library(const std::string& name);  ///< with LD_LIBRARY_PATH

}  // namespace lutsmith
