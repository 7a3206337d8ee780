#pragma once

#include <cstdint>

namespace lutsmith::cache {

/// What a directory may grow to before the entries used longest ago are removed.
struct Limits {
  std::uint64_t bytes = std::uint64_t{4} << 30;
  std::uint64_t entries = 100'000;
};

}  // namespace lutsmith::cache
