#pragma once

#include <string>

#include "lutsmith/error.h"
#include "runtime/driver_api.h"

namespace lutsmith::cuda {

/// The file of a library that dlopen returned, links followed: the name of a driver's tells its release.
std::string file_of(void* library);

/// Why a driver library that opened is of no use, where it lies, and what to do, for what `call` returned on
/// the way to the first GPU. `plain` is the Error for any other call.
Error driver_refusal(Status status, const char* call, const std::string& library, Error plain);

/// For a library that lacks `symbol`. `version` is what it supports, 0 where it does not tell.
Error driver_lacks(const char* symbol, int version, const std::string& library);

/// For a driver older than lutsmith can use.
Error driver_too_old(int version, const std::string& library);

}  // namespace lutsmith::cuda
