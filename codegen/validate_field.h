#pragma once

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <string_view>

#include "core/result.h"

namespace lutsmith {

/// Refuses a value of a schedule's field that is not among those allowed, and names them.
template <std::size_t kCount>
Result<void> validate_one_of(std::string_view field, int value, const int (&allowed)[kCount]) {
  if (std::ranges::find(allowed, value) != std::end(allowed)) return {};
  return refuse(fmt::format("{}: {} is not allowed; allowed: {}", field, value, fmt::join(allowed, ", ")));
}

}  // namespace lutsmith
