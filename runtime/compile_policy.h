#pragma once

#include <string_view>

#include "lutsmith/error.h"
#include "lutsmith/service.h"

namespace lutsmith {

/// LUTSMITH_COMPILE as a policy; nothing is when_needed. Error: invalid_argument, a sentence that names the
/// variable, the value and what is allowed.
Result<CompilePolicy> parse_compile_policy(std::string_view value);

}  // namespace lutsmith
