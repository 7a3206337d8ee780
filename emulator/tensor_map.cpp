#include "emulator/tensor_map.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "emulator/fault.h"

namespace lutsmith::emulator {
namespace {

constexpr std::uint64_t kMade = 0x70616d726f736e74;
constexpr std::size_t kRowBytes = 128;
constexpr std::size_t kPieceBytes = 16;
constexpr std::size_t kSwizzledRows = 8;

struct Words {
  std::uint64_t made;
  DescribedMatrix matrix;
};
static_assert(sizeof(Words) <= sizeof(TensorMap));

}  // namespace

TensorMap describe_matrix(const std::uint16_t* base, std::int64_t columns, std::int64_t rows,
                          std::int64_t row_stride, std::int64_t box_rows) {
  const Words words{
      kMade, {base, columns, rows, row_stride, MappedParameter<LaunchArguments>::kBoxColumns, box_rows}};
  TensorMap map = {};
  std::memcpy(&map, &words, sizeof(words));
  return map;
}

DescribedMatrix described_by(const void* map) {
  Words words;
  std::memcpy(&words, map, sizeof(words));
  if (words.made != kMade)
    throw Fault("uses a tensor map that nobody has made: the launch recipe has no box of X");
  return words.matrix;
}

std::vector<std::byte> read_box(const DescribedMatrix& matrix, std::int64_t column, std::int64_t row,
                                const GlobalMemory& global) {
  std::vector<std::byte> box(static_cast<std::size_t>(matrix.box_rows) * kRowBytes);
  const std::int64_t first = std::max<std::int64_t>(column, 0);
  const std::int64_t last = std::min(column + matrix.box_columns, matrix.columns);
  for (std::int64_t r = 0; r < matrix.box_rows; ++r) {
    if (row + r < 0 || row + r >= matrix.rows || first >= last) continue;
    const std::uint16_t* const from = matrix.base + (row + r) * matrix.row_stride;
    const auto bytes = static_cast<std::size_t>(last - first) * sizeof(*from);
    global.check_copy(Region::activations, from + first, bytes, sizeof(*from));
    std::byte* const to = box.data() + static_cast<std::size_t>(r) * kRowBytes;
    for (std::int64_t c = first; c < last; ++c) {
      const std::size_t at = static_cast<std::size_t>(c - column) * sizeof(*from);
      std::memcpy(to + (at ^ static_cast<std::size_t>(r) % kSwizzledRows * kPieceBytes), from + c,
                  sizeof(*from));
    }
  }
  return box;
}

}  // namespace lutsmith::emulator
