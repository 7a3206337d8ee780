#include "runtime/compile_policy.h"

#include <fmt/format.h>

namespace lutsmith {

Result<CompilePolicy> parse_compile_policy(std::string_view value) {
  if (value.empty() || value == "when-needed") return CompilePolicy::when_needed;
  if (value == "never") return CompilePolicy::never;
  return std::unexpected(Error{
      ErrorCode::invalid_argument,
      fmt::format("LUTSMITH_COMPILE: '{}' is not known; allowed: when-needed, never; kernels are compiled "
                  "when needed",
                  value),
      ""});
}

}  // namespace lutsmith
