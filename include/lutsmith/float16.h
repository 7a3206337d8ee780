#pragma once

#include <cstdint>

#include "lutsmith/export.h"
#include "lutsmith/weight_format.h"

namespace lutsmith {

/// One number in a 16-bit type, rounded to nearest even; and back (exact).
LUTSMITH_API std::uint16_t to_bits(float value, DataType type);
LUTSMITH_API float from_bits(std::uint16_t bits, DataType type);

}  // namespace lutsmith
