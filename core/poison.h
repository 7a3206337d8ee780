#pragma once

namespace lutsmith {

/// Fills an output before a kernel runs. Every type of output reads these bytes as not-a-number, so an
/// element that no one wrote cannot pass for a result.
inline constexpr unsigned char kPoisonByte = 0xff;

}  // namespace lutsmith
