#pragma once

#include <array>
#include <cstdint>

#include "lutsmith/weight_format.h"

namespace lutsmith::emulator {

/// What a tensor core multiplies at a time: 16 neighbouring numbers along K, of a row of A or a token of B.
class Depth16 {
 public:
  static constexpr std::size_t kDepth = 16;

  Depth16() = default;
  Depth16(const std::array<std::uint16_t, kDepth>& bits, DataType type);

  /// d + the products of a and b, as tensor cores add: the 16 products are exact; they and d are aligned to
  /// the largest exponent among them, cut off two bits below an fp32 significand, and added; the sum is cut
  /// to fp32. (Hopper; Li et al., "FTTN: Feature-Targeted Testing for Numerical Properties of NVIDIA and AMD
  /// Matrix Accelerators", 2024, table 6. Earlier tensor cores add 8 or 4 products at a time.)
  static float multiply_add(float d, const Depth16& a, const Depth16& b);

 private:
  static float add_non_finite(float d, const Depth16& a, const Depth16& b);

  std::array<double, kDepth> values_;
  std::array<std::int16_t, kDepth> exponents_;  ///< of zero: below every other
  bool finite_ = true;
};

/// Element e of register r of a lane, as PTX lays the fragments of mma.m16n8k16 out.
struct FragmentPlace {
  int row;
  int column;
};

constexpr FragmentPlace place_in_a(int lane, int r, int e) {
  return {lane / 4 + r % 2 * 8, lane % 4 * 2 + r / 2 * 8 + e};
}
constexpr FragmentPlace place_in_b(int lane, int r, int e) { return {lane % 4 * 2 + r * 8 + e, lane / 4}; }
constexpr FragmentPlace place_in_d(int lane, int c) { return {lane / 4 + c / 2 * 8, lane % 4 * 2 + c % 2}; }

/// The A registers of a warp, of each lane four with two 16-bit floats a word, as the 16 rows they are.
std::array<Depth16, 16> rows_of(const std::array<std::array<std::uint32_t, 4>, 32>& a, DataType type);

/// What the 32 lanes of a warp bring to mma.sync.m16n8k16, and get back.
struct MmaFragments {
  std::array<std::array<std::uint32_t, 4>, 32> a;  ///< [16 x 16], two 16-bit floats a word
  std::array<std::array<std::uint32_t, 2>, 32> b;  ///< [16 x 8]
  std::array<std::array<float, 4>, 32> d;          ///< [16 x 8]
};

/// d += a * b.
void multiply_accumulate(MmaFragments& fragments, DataType type);

}  // namespace lutsmith::emulator
