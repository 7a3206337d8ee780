#pragma once

#include <cstdint>

#include "lutsmith/weight_format.h"

namespace lutsmith {

/// Largest n, k and m: products of two of them, and the bytes of what they count, stay far inside 64 bits,
/// and tile numbers inside 32.
inline constexpr std::int64_t kMaxSize = std::int64_t{1} << 24;

/// The checks of single fields that validate(WeightFormat) is made of, for what has no more than these.
Result<void> validate_bits(int bits);
Result<void> validate(DataType dtype);
Result<void> validate(TableKind kind);

}  // namespace lutsmith
