#pragma once

#include <cstdint>

namespace lutsmith {

/// Fills an output before a kernel runs. Both 16-bit types read two of these bytes as not-a-number, so an
/// element that no one wrote cannot pass for a result.
inline constexpr unsigned char kPoisonByte = 0xff;
/// Two of them.
inline constexpr std::uint16_t kPoisonValue = 0xffff;

}  // namespace lutsmith
