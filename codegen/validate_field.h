#pragma once

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <string_view>

#include "core/result.h"
#include "lutsmith/kernel_spec.h"

namespace lutsmith {

/// Refuses a value of a schedule's field that is not among those allowed, and names them.
template <std::size_t kCount>
Result<void> validate_one_of(std::string_view field, int value, const int (&allowed)[kCount]) {
  if (std::ranges::find(allowed, value) != std::end(allowed)) return {};
  return refuse(fmt::format("{}: {} is not allowed; allowed: {}", field, value, fmt::join(allowed, ", ")));
}

/// Refuses tiles that would lie in two segments of rows.
inline Result<void> validate_tile_rows(const KernelSpec& spec, int tile_rows) {
  if (spec.segment_rows % tile_rows == 0) return {};
  return refuse(fmt::format("tile_rows: {} is not allowed with segment_rows {}; allowed: divisors of that",
                            tile_rows, spec.segment_rows));
}

}  // namespace lutsmith
