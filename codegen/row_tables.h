#pragma once

#include "lutsmith/weight_format.h"

// What a table for each row costs a kernel (templates/look_up/row_table.cuh); nothing of it where a format
// has one table for all rows.

namespace lutsmith {

/// Registers of a lane for a record's tables: of two rows, low and high bytes apart.
constexpr int row_table_registers(const WeightFormat& format) {
  constexpr int kPlanes = 4;
  if (!format.row_tables()) return 0;
  return kPlanes * (format.bits <= 2 ? 1 : 1 << (format.bits - 2));
}

/// Instructions of the look-ups of a record for one mma, joining the slices of codes included: read off the
/// machine code. Permutations and logic of a warp keep the unit that does them for two cycles.
constexpr int row_look_up_instructions(int bits) { return bits == 4 ? 22 : bits == 3 ? 14 : 12; }
constexpr int kCyclesOfPermutation = 2;

}  // namespace lutsmith
