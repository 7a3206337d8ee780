#include <bit>
#include <cstdint>

#include "lutsmith/float16.h"

// Integer arithmetic on the bit patterns: the same results on every host, with or without
// conversion instructions, and whatever the caller set its floating-point environment to.

namespace lutsmith {
namespace {

constexpr std::uint32_t kFloatInfinity = 0x7f800000;
constexpr int kDroppedF16 = 23 - 10;                      // fraction bits that f16 lacks
constexpr std::uint32_t kRebiasF16 = (127U - 15U) << 23;  // between the two exponents
constexpr std::uint32_t kSmallestNormalF16 = 0x38800000;  // 2^-14 as a float
constexpr std::uint32_t kBeyondF16 = 0x47800000;          // 2^16 as a float
constexpr std::uint16_t kInfinityF16 = 0x7c00;

/// value / 2^shift, to nearest, ties to even. A carry out of the fraction moves the exponent up by
/// one, which is what rounding up to a power of two or to infinity means.
constexpr std::uint32_t shift_rounded(std::uint32_t value, int shift) {
  const std::uint32_t half = 1U << (shift - 1);
  return (value + half - 1 + (value >> shift & 1)) >> shift;
}

constexpr std::uint32_t magnitude_to_f16(std::uint32_t magnitude) {
  if (magnitude > kFloatInfinity) {  // quiet, the upper payload kept
    return kInfinityF16 | 0x200U | (magnitude >> kDroppedF16 & 0x3ffU);
  }
  if (magnitude >= kBeyondF16) return kInfinityF16;
  if (magnitude >= kSmallestNormalF16) return shift_rounded(magnitude - kRebiasF16, kDroppedF16);
  // Subnormal: a count of 2^-24. The float is fraction * 2^(exponent - 150).
  const int shift = 126 - static_cast<int>(magnitude >> 23);
  if (shift > 24) return 0;  // below half of the smallest
  return shift_rounded((magnitude & 0x7fffffU) | 0x800000U, shift);
}

constexpr std::uint32_t magnitude_from_f16(std::uint32_t magnitude) {
  const std::uint32_t fraction = magnitude & 0x3ffU;
  if (magnitude >= kInfinityF16) return kFloatInfinity | fraction << kDroppedF16;
  if (magnitude > 0x3ffU) return (magnitude << kDroppedF16) + kRebiasF16;
  return std::bit_cast<std::uint32_t>(static_cast<float>(fraction) * 0x1p-24F);
}

constexpr std::uint32_t magnitude_to_bf16(std::uint32_t magnitude) {
  if (magnitude > kFloatInfinity) return magnitude >> 16 | 0x40U;
  return shift_rounded(magnitude, 16);
}

}  // namespace

std::uint16_t to_bits(float value, DataType type) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t magnitude = bits & 0x7fffffffU;
  const std::uint32_t rounded =
      type == DataType::f16 ? magnitude_to_f16(magnitude) : magnitude_to_bf16(magnitude);
  return static_cast<std::uint16_t>((bits >> 16 & 0x8000U) | rounded);
}

float from_bits(std::uint16_t bits, DataType type) {
  if (type == DataType::bf16) return std::bit_cast<float>(std::uint32_t{bits} << 16);
  const std::uint32_t sign = (bits & 0x8000U) << 16;
  return std::bit_cast<float>(sign | magnitude_from_f16(bits & 0x7fffU));
}

}  // namespace lutsmith
