#include "emulator/tensor_core.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdlib>

#include "lutsmith/float16.h"

namespace lutsmith::emulator {
namespace {

constexpr int kRows = 16;
constexpr int kTokens = 8;
constexpr int kDepth = 16;
constexpr int kSumFraction = 23;  ///< bits of an fp32 significand behind the point
constexpr int kExtraBits = 2;
/// Below every exponent: of a number that is zero.
constexpr int kNoExponent = -1000;

/// significand * 2^(exponent - fraction bits of its format).
struct Number {
  std::int64_t significand = 0;  ///< signed
  int exponent = kNoExponent;
  float value = 0;  ///< the same as a float, where it may be infinite or not a number
};

struct Format {
  int fraction;  ///< bits behind the point
  int bias;
};

constexpr Format format_of(DataType type) { return type == DataType::bf16 ? Format{7, 127} : Format{10, 15}; }

Number number_of(std::uint32_t bits, int width, const Format& format) {
  const int exponent_bits = width - 1 - format.fraction;
  const int biased = static_cast<int>(bits >> format.fraction & ((1u << exponent_bits) - 1));
  std::int64_t significand = bits & ((1u << format.fraction) - 1);
  if (biased != 0) significand |= std::int64_t{1} << format.fraction;
  if (significand == 0) return {};
  const bool negative = (bits >> (width - 1) & 1) != 0;
  return {negative ? -significand : significand, (biased == 0 ? 1 : biased) - format.bias};
}

/// Towards zero.
std::int64_t scaled(std::int64_t value, int shift) {
  if (shift >= 0) return value << shift;
  if (shift <= -63) return 0;
  return value / (std::int64_t{1} << -shift);
}

/// value * 2^exponent, cut to fp32 towards zero.
float cut_to_float(std::int64_t value, int exponent) {
  const std::uint64_t magnitude = static_cast<std::uint64_t>(std::abs(value));
  const int excess = static_cast<int>(std::bit_width(magnitude)) - (kSumFraction + 1);
  if (excess > 0) value = scaled(scaled(value, -excess), excess);
  return std::ldexp(static_cast<float>(value), exponent);
}

struct Matrices {
  Number a[kRows][kDepth];
  Number b[kDepth][kTokens];
  bool row_finite[kRows];
  bool token_finite[kTokens];
};

/// Element e of register r of a lane, as PTX lays the fragments of mma.m16n8k16 out.
struct Place {
  int row;
  int column;
};

Place place_in_a(int lane, int r, int e) { return {lane / 4 + r % 2 * 8, lane % 4 * 2 + r / 2 * 8 + e}; }
Place place_in_b(int lane, int r, int e) { return {lane % 4 * 2 + r * 8 + e, lane / 4}; }
Place place_in_d(int lane, int c) { return {lane / 4 + c / 2 * 8, lane % 4 * 2 + c % 2}; }

Matrices matrices_of(const MmaFragments& fragments, DataType type) {
  const Format format = format_of(type);
  Matrices matrices;
  std::ranges::fill(matrices.row_finite, true);
  std::ranges::fill(matrices.token_finite, true);
  const auto number = [&](std::uint32_t word, int e, bool& finite) {
    const std::uint32_t bits = word >> 16 * e & 0xffff;
    Number result = number_of(bits, 16, format);
    result.value = from_bits(static_cast<std::uint16_t>(bits), type);
    finite = finite && std::isfinite(result.value);
    return result;
  };
  for (int lane = 0; lane < 32; ++lane) {
    const auto& a = fragments.a[static_cast<std::size_t>(lane)];
    const auto& b = fragments.b[static_cast<std::size_t>(lane)];
    for (int e = 0; e < 2; ++e) {
      for (int r = 0; r < 4; ++r) {
        const Place at = place_in_a(lane, r, e);
        matrices.a[at.row][at.column] =
            number(a[static_cast<std::size_t>(r)], e, matrices.row_finite[at.row]);
      }
      for (int r = 0; r < 2; ++r) {
        const Place at = place_in_b(lane, r, e);
        matrices.b[at.row][at.column] =
            number(b[static_cast<std::size_t>(r)], e, matrices.token_finite[at.column]);
      }
    }
  }
  return matrices;
}

float add_products(float d, const Matrices& matrices, int row, int token, int fraction) {
  const Number sum = number_of(std::bit_cast<std::uint32_t>(d), 32, {kSumFraction, 127});
  Number products[kDepth];
  int largest = sum.exponent;
  for (int k = 0; k < kDepth; ++k) {
    const Number& a = matrices.a[row][k];
    const Number& b = matrices.b[k][token];
    if (a.significand == 0 || b.significand == 0) continue;
    products[k] = {a.significand * b.significand, a.exponent + b.exponent};
    largest = std::max(largest, products[k].exponent);
  }
  if (largest == kNoExponent) return d;
  const int lowest = largest - kSumFraction - kExtraBits;  // exponent of the last bit that is kept
  std::int64_t total = scaled(sum.significand, sum.exponent - kSumFraction - lowest);
  for (const Number& product : products) {
    if (product.significand != 0) {
      total += scaled(product.significand, product.exponent - 2 * fraction - lowest);
    }
  }
  return cut_to_float(total, lowest);
}

/// Where one of them is infinite or not a number, so is the sum, in whatever order they are added.
float add_non_finite(float d, const Matrices& matrices, int row, int token) {
  for (int k = 0; k < kDepth; ++k) d += matrices.a[row][k].value * matrices.b[k][token].value;
  return d;
}

}  // namespace

void multiply_accumulate(MmaFragments& fragments, DataType type) {
  const Matrices matrices = matrices_of(fragments, type);
  const int fraction = format_of(type).fraction;
  for (int lane = 0; lane < 32; ++lane) {
    for (int c = 0; c < 4; ++c) {
      const Place at = place_in_d(lane, c);
      float& d = fragments.d[static_cast<std::size_t>(lane)][static_cast<std::size_t>(c)];
      const bool finite = matrices.row_finite[at.row] && matrices.token_finite[at.column] && std::isfinite(d);
      d = finite ? add_products(d, matrices, at.row, at.column, fraction)
                 : add_non_finite(d, matrices, at.row, at.column);
    }
  }
}

}  // namespace lutsmith::emulator
