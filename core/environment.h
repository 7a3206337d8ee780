#pragma once

#include <string>

namespace lutsmith::core {

/// The value of an environment variable; empty where it is not set.
std::string environment_variable(const char* name);

}  // namespace lutsmith::core
