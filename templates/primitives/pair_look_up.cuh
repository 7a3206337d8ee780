#pragma once

// Look-up in the table of pairs.

#ifndef LUTSMITH_EMULATOR  // which brings its own

namespace lutsmith::device {

/// The A registers of one mma from its 8 codes, one in each nibble. `table` is where the
/// table of pairs stands in shared memory: entry i at i * 256, for lane l at 4 * l of it.
///
/// One statement for four look-ups, which the compiler takes for arithmetic: it is free to move them
/// among the mma, and has a quarter of the work with them. `lane_offset` must therefore come out of
/// readable_from_here(), after the barrier behind the filling.
__device__ __forceinline__ void look_up_pairs(unsigned int (&a)[4], unsigned int table, unsigned int nibbles,
                                              unsigned int lane_offset) {
  asm("{\n"
      "  .reg .b32 at0, at1, at2, at3;\n"
      "  prmt.b32 at0, %4, %5, 0x7704;\n"
      "  prmt.b32 at1, %4, %5, 0x7714;\n"
      "  prmt.b32 at2, %4, %5, 0x7724;\n"
      "  prmt.b32 at3, %4, %5, 0x7734;\n"
      "  add.u32 at0, at0, %6;\n"
      "  add.u32 at1, at1, %6;\n"
      "  add.u32 at2, at2, %6;\n"
      "  add.u32 at3, at3, %6;\n"
      "  ld.shared.u32 %0, [at0];\n"
      "  ld.shared.u32 %1, [at1];\n"
      "  ld.shared.u32 %2, [at2];\n"
      "  ld.shared.u32 %3, [at3];\n"
      "}"
      : "=r"(a[0]), "=r"(a[1]), "=r"(a[2]), "=r"(a[3])
      : "r"(nibbles), "r"(lane_offset), "r"(table));
}

/// The same in a table whose entries follow one another: entry i at i * 128. `lane_table` is where the lane's
/// copy of the first entry stands.
__device__ __forceinline__ void look_up_compact_pairs(unsigned int (&a)[4], unsigned int lane_table,
                                                      unsigned int nibbles) {
  asm("{\n"
      "  .reg .b32 at0, at1, at2, at3;\n"
      "  dp4a.u32.u32 at0, %4, 0x00000080, %5;\n"
      "  dp4a.u32.u32 at1, %4, 0x00008000, %5;\n"
      "  dp4a.u32.u32 at2, %4, 0x00800000, %5;\n"
      "  dp4a.u32.u32 at3, %4, 0x80000000, %5;\n"
      "  ld.shared.u32 %0, [at0];\n"
      "  ld.shared.u32 %1, [at1];\n"
      "  ld.shared.u32 %2, [at2];\n"
      "  ld.shared.u32 %3, [at3];\n"
      "}"
      : "=r"(a[0]), "=r"(a[1]), "=r"(a[2]), "=r"(a[3])
      : "r"(nibbles), "r"(lane_table));
}

/// A lane's offset into every entry, which the compiler knows only from here on: no look-up goes ahead.
__device__ __forceinline__ unsigned int readable_from_here(int lane) {
  unsigned int lane_offset = static_cast<unsigned int>(lane) * 4;
  asm volatile("" : "+r"(lane_offset));
  return lane_offset;
}

}  // namespace lutsmith::device

#endif
