#pragma once

#include <array>
#include <cstdint>

#include "lutsmith/weight_format.h"

namespace lutsmith::emulator {

/// What the 32 lanes of a warp bring to mma.sync.m16n8k16, and get back.
struct MmaFragments {
  std::array<std::array<std::uint32_t, 4>, 32> a;  ///< [16 x 16], two 16-bit floats a word
  std::array<std::array<std::uint32_t, 2>, 32> b;  ///< [16 x 8]
  std::array<std::array<float, 4>, 32> d;          ///< [16 x 8]
};

/// d += a * b as tensor cores add: the 16 products are exact; they and d are aligned to the largest
/// exponent among them, cut off two bits below an fp32 significand, and added; the sum is cut to fp32.
/// (Hopper; Li et al., "FTTN: Feature-Targeted Testing for Numerical Properties of NVIDIA and AMD Matrix
/// Accelerators", 2024, table 6. Earlier tensor cores add 8 or 4 products at a time.)
void multiply_accumulate(MmaFragments& fragments, DataType type);

}  // namespace lutsmith::emulator
