#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "emulator/global_memory.h"
#include "templates/abi/kernel_arguments.h"

namespace lutsmith::emulator {

/// What the emulator keeps in a TensorMap where a GPU has the driver's encoding: a row-major matrix of 16-bit
/// numbers, and the boxes it is copied in.
struct DescribedMatrix {
  const std::uint16_t* base = nullptr;
  std::int64_t columns = 0;
  std::int64_t rows = 0;
  std::int64_t row_stride = 0;  ///< in elements
  std::int64_t box_columns = 0;
  std::int64_t box_rows = 0;
};

/// The map of boxes of MappedParameter::kBoxColumns x `box_rows` of a matrix.
TensorMap describe_matrix(const std::uint16_t* base, std::int64_t columns, std::int64_t rows,
                          std::int64_t row_stride, std::int64_t box_rows);

/// The matrix of a map. Throws a Fault where nobody has made it.
DescribedMatrix described_by(const void* map);

/// The box at (column, row) as the copy engine writes it: a row of 128 bytes after another, the 16-byte
/// pieces of row r at r % 8 XOR their number, zeros for what lies outside the matrix.
std::vector<std::byte> read_box(const DescribedMatrix& matrix, std::int64_t column, std::int64_t row,
                                const GlobalMemory& global);

}  // namespace lutsmith::emulator
