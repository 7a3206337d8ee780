#pragma once

#include <optional>
#include <string_view>

namespace lutsmith {

/// What ptxas -v reports of a translation unit with one kernel.
struct PtxasFacts {
  int registers = 0;
  int static_shared_bytes = 0;
  int spill_bytes = 0;  ///< stores plus loads
};

/// Nothing where the log does not say how many registers are used.
std::optional<PtxasFacts> parse_ptxas_log(std::string_view log);

}  // namespace lutsmith
