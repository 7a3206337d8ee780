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

struct Format {
  int fraction;  ///< bits behind the point
  int bias;
};

constexpr Format kSingle = {kSumFraction, 127};

constexpr Format format_of(DataType type) { return type == DataType::bf16 ? Format{7, 127} : Format{10, 15}; }

/// The significand of a subnormal number has no one before the point: its exponent is that of the smallest
/// other.
int exponent_of(std::uint32_t bits, int width, const Format& format) {
  const std::uint32_t magnitude = bits & ((1u << (width - 1)) - 1);
  if (magnitude == 0) return kNoExponent;
  const int biased = static_cast<int>(magnitude >> format.fraction);
  return std::max(biased, 1) - format.bias;
}

double power_of_two(int exponent) {
  constexpr int kFraction = 52;
  constexpr int kBias = 1023;
  return std::bit_cast<double>(static_cast<std::uint64_t>(exponent + kBias) << kFraction);
}

/// value * unit, a power of two, cut to the bits of an fp32 significand towards zero.
float cut_to_float(std::int64_t value, double unit) {
  const auto magnitude = static_cast<std::uint64_t>(std::abs(value));
  const int excess = std::max(static_cast<int>(std::bit_width(magnitude)) - (kSumFraction + 1), 0);
  const auto cut = static_cast<double>(magnitude >> excess << excess) * unit;
  return static_cast<float>(value < 0 ? -cut : cut);
}

}  // namespace

Depth16::Depth16(const std::array<std::uint16_t, kDepth>& bits, DataType type) {
  for (std::size_t k = 0; k < kDepth; ++k) {
    const float value = from_bits(bits[k], type);
    values_[k] = value;
    exponents_[k] = static_cast<std::int16_t>(exponent_of(bits[k], 16, format_of(type)));
    finite_ = finite_ && std::isfinite(value);
  }
}

float Depth16::multiply_add(float d, const Depth16& a, const Depth16& b) {
  if (!a.finite_ || !b.finite_ || !std::isfinite(d)) return add_non_finite(d, a, b);
  std::int16_t largest = kNoExponent;
  for (std::size_t k = 0; k < kDepth; ++k) {
    largest = std::max(largest, static_cast<std::int16_t>(a.exponents_[k] + b.exponents_[k]));
  }
  largest =
      std::max(largest, static_cast<std::int16_t>(exponent_of(std::bit_cast<std::uint32_t>(d), 32, kSingle)));
  if (largest <= kNoExponent / 2) return d;
  // Everything as multiples of the last bit that is kept. A product is below 4 times the largest exponent's
  // power, so below 2^27 of them, and 16 stay below 2^31.
  const int last = largest - kSumFraction - kExtraBits;
  const double scale = power_of_two(-last);
  std::int32_t products = 0;
  for (std::size_t k = 0; k < kDepth; ++k) {
    products += static_cast<std::int32_t>(a.values_[k] * b.values_[k] * scale);
  }
  return cut_to_float(std::int64_t{products} + static_cast<std::int32_t>(d * scale), power_of_two(last));
}

/// Where one of them is infinite or not a number, so is the sum, in whatever order they are added.
float Depth16::add_non_finite(float d, const Depth16& a, const Depth16& b) {
  for (std::size_t k = 0; k < kDepth; ++k)
    d += static_cast<float>(a.values_[k]) * static_cast<float>(b.values_[k]);
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
