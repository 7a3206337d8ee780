#pragma once

#include "templates/abi/packed_layout.h"

// Where the packer puts every single code. Kernels need none of it: they hold codes as they come, in the
// order of the fragments (packed_layout.h has the picture).

namespace lutsmith::layout {

/// The slices of a code of `bits`: how many there are, the bits of each, and the code bit each
/// starts at. Low bits first, widest first.
struct Slices {
  int count;
  int bits[3];
  int shift[3];
};

constexpr Slices slices(int bits) {
  Slices result{0, {0, 0, 0}, {0, 0, 0}};
  int shift = 0;
  while (shift < bits) {
    const int left = bits - shift;
    const int width = left >= 4 ? 4 : left >= 2 ? 2 : 1;
    result.bits[result.count] = width;
    result.shift[result.count] = shift;
    ++result.count;
    shift += width;
  }
  return result;
}

/// Where in a slice the code at (row, column) of a record stands.
struct CodePlace {
  int word;  ///< 32-bit word of the slice
  int bit;   ///< lowest bit in that word
};

constexpr CodePlace code_place(int slice_bits, int row, int column) {
  const int g = row % 8;
  const int t = column / 8 % 4;
  const int lane = 4 * g + t;
  const int mma = 2 * (column / 32) + column / 4 % 2;
  const int a = row / 8 + 2 * (column / 2 % 2);
  const int e = column % 2;
  const int mma_per_word = 4 / slice_bits;
  const int lane_word = mma / mma_per_word;
  const int words = kMmaPerRecord / mma_per_word;  // of one lane
  const int vector_words = words < 4 ? words : 4;  // of one load
  const int word = (lane_word / vector_words * kLanes + lane) * vector_words + lane_word % vector_words;
  return {word, 8 * a + 4 * e + mma % mma_per_word * slice_bits};
}

}  // namespace lutsmith::layout
