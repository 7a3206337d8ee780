#include "emulator/tensor_core.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdlib>

#include "lutsmith/float16.h"

namespace lutsmith::emulator {
namespace {

constexpr int kTokens = 8;
constexpr int kSumFraction = 23;  ///< bits of an fp32 significand behind the point
constexpr int kExtraBits = 2;
/// Below every exponent, by so much that a product with it is too: of a number that is zero.
constexpr int kNoExponent = -1000;

/// significand * 2^(exponent - fraction bits of its format).
struct Number {
  std::int32_t significand = 0;  ///< signed
  std::int32_t exponent = kNoExponent;
};

struct Format {
  int fraction;  ///< bits behind the point
  int bias;
};

constexpr Format format_of(DataType type) { return type == DataType::bf16 ? Format{7, 127} : Format{10, 15}; }

Number number_of(std::uint32_t bits, int width, const Format& format) {
  const int exponent_bits = width - 1 - format.fraction;
  const int biased = static_cast<int>(bits >> format.fraction & ((1u << exponent_bits) - 1));
  auto significand = static_cast<std::int32_t>(bits & ((1u << format.fraction) - 1));
  if (biased != 0) significand |= 1 << format.fraction;
  if (significand == 0) return {};
  const bool negative = (bits >> (width - 1) & 1) != 0;
  return {negative ? -significand : significand, (biased == 0 ? 1 : biased) - format.bias};
}

/// value / 2^shift, towards zero.
std::int64_t cut(std::int64_t value, int shift) {
  if (shift > 62) return 0;
  const std::int64_t below = (std::int64_t{1} << shift) - 1;
  return (value + (value < 0 ? below : 0)) >> shift;
}

/// value * 2^exponent, cut to fp32 towards zero.
float cut_to_float(std::int64_t value, int exponent) {
  const std::uint64_t magnitude = static_cast<std::uint64_t>(std::abs(value));
  const int excess = static_cast<int>(std::bit_width(magnitude)) - (kSumFraction + 1);
  if (excess > 0) value = cut(value, excess) * (std::int64_t{1} << excess);
  return std::ldexp(static_cast<float>(value), exponent);
}

}  // namespace

Depth16::Depth16(const std::array<std::uint16_t, kDepth>& bits, DataType type)
    : fraction_(format_of(type).fraction) {
  for (std::size_t k = 0; k < kDepth; ++k) {
    const Number number = number_of(bits[k], 16, format_of(type));
    significands_[k] = number.significand;
    exponents_[k] = number.exponent;
    values_[k] = from_bits(bits[k], type);
    finite_ = finite_ && std::isfinite(values_[k]);
  }
}

float Depth16::multiply_add(float d, const Depth16& a, const Depth16& b) {
  if (!a.finite_ || !b.finite_ || !std::isfinite(d)) return add_non_finite(d, a, b);
  const Number sum = number_of(std::bit_cast<std::uint32_t>(d), 32, {kSumFraction, 127});
  int largest = sum.exponent;
  for (std::size_t k = 0; k < kDepth; ++k) largest = std::max(largest, a.exponents_[k] + b.exponents_[k]);
  if (largest <= kNoExponent / 2) return d;
  // Everything as multiples of the last bit that is kept.
  std::int64_t total =
      cut(std::int64_t{sum.significand} * (std::int64_t{1} << kExtraBits), largest - sum.exponent);
  const int kept_bits = kSumFraction + kExtraBits - 2 * a.fraction_;  // that a product does not have
  for (std::size_t k = 0; k < kDepth; ++k) {
    const std::int64_t product = std::int64_t{a.significands_[k]} * b.significands_[k];
    total += cut(product * (std::int64_t{1} << kept_bits), largest - a.exponents_[k] - b.exponents_[k]);
  }
  return cut_to_float(total, largest - kSumFraction - kExtraBits);
}

/// Where one of them is infinite or not a number, so is the sum, in whatever order they are added.
float Depth16::add_non_finite(float d, const Depth16& a, const Depth16& b) {
  for (std::size_t k = 0; k < kDepth; ++k) d += a.values_[k] * b.values_[k];
  return d;
}

std::array<Depth16, 16> rows_of(const std::array<std::array<std::uint32_t, 4>, 32>& a, DataType type) {
  std::array<std::array<std::uint16_t, Depth16::kDepth>, 16> bits;
  for (int lane = 0; lane < 32; ++lane) {
    for (int r = 0; r < 4; ++r) {
      for (int e = 0; e < 2; ++e) {
        const FragmentPlace at = place_in_a(lane, r, e);
        bits[static_cast<std::size_t>(at.row)][static_cast<std::size_t>(at.column)] =
            static_cast<std::uint16_t>(a[static_cast<std::size_t>(lane)][static_cast<std::size_t>(r)] >>
                                       16 * e);
      }
    }
  }
  std::array<Depth16, 16> rows;
  std::ranges::transform(bits, rows.begin(), [&](const auto& row) { return Depth16(row, type); });
  return rows;
}

void multiply_accumulate(MmaFragments& fragments, DataType type) {
  const std::array<Depth16, 16> rows = rows_of(fragments.a, type);
  std::array<std::array<std::uint16_t, Depth16::kDepth>, kTokens> bits;
  for (int lane = 0; lane < 32; ++lane) {
    for (int r = 0; r < 2; ++r) {
      for (int e = 0; e < 2; ++e) {
        const FragmentPlace at = place_in_b(lane, r, e);
        bits[static_cast<std::size_t>(at.column)][static_cast<std::size_t>(at.row)] =
            static_cast<std::uint16_t>(
                fragments.b[static_cast<std::size_t>(lane)][static_cast<std::size_t>(r)] >> 16 * e);
      }
    }
  }
  std::array<Depth16, kTokens> tokens;
  std::ranges::transform(bits, tokens.begin(), [&](const auto& token) { return Depth16(token, type); });
  for (int lane = 0; lane < 32; ++lane) {
    for (int c = 0; c < 4; ++c) {
      const FragmentPlace at = place_in_d(lane, c);
      float& d = fragments.d[static_cast<std::size_t>(lane)][static_cast<std::size_t>(c)];
      d = Depth16::multiply_add(d, rows[static_cast<std::size_t>(at.row)],
                                tokens[static_cast<std::size_t>(at.column)]);
    }
  }
}

}  // namespace lutsmith::emulator
