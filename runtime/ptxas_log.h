#pragma once

#include <optional>
#include <string_view>

namespace lutsmith {

/// What ptxas -v reports of a translation unit with one kernel.
struct PtxasFacts {
  int registers = 0;
  int static_shared_bytes = 0;
  /// Stores plus loads of what did not fit the registers, or the frame of arrays that cannot be there.
  int spill_bytes = 0;
};

/// Nothing where the log does not say how many registers are used.
std::optional<PtxasFacts> parse_ptxas_log(std::string_view log);

}  // namespace lutsmith
