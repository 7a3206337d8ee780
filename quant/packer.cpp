#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <utility>

#include "core/allocate.h"
#include "core/result.h"
#include "quant/validation.h"
#include "templates/abi/code_places.h"
#include "templates/abi/packed_layout.h"

namespace lutsmith {
namespace {

static_assert(std::endian::native == std::endian::little, "the packed words are little-endian");
static_assert(layout::kPerChannelGroup == kPerChannel);

constexpr int kRecordCodes = layout::kRecordRows * layout::kRecordColumns;
constexpr int kWordBytes = static_cast<int>(sizeof(std::uint32_t));
constexpr int kMaxCodeWords = layout::slice_bytes(8) / kWordBytes;
using RecordWords = std::array<std::uint32_t, kMaxCodeWords>;

/// Where every code of a record stands, looked up instead of computed code by code.
class CodePlaces {
 public:
  explicit CodePlaces(int bits) : slices_(layout::slices(bits)) {
    int first_word = 0;
    for (int s = 0; s < slices_.count; ++s) {
      const int width = slices_.bits[s];
      auto& places = places_[static_cast<std::size_t>(s)];
      for (int i = 0; i < kRecordCodes; ++i) {
        const layout::CodePlace place =
            layout::code_place(width, i / layout::kRecordColumns, i % layout::kRecordColumns);
        places[static_cast<std::size_t>(i)] = {static_cast<std::uint16_t>(first_word + place.word),
                                               static_cast<std::uint8_t>(place.bit)};
      }
      first_word += layout::slice_bytes(width) / kWordBytes;
    }
  }

  /// Sets `count` codes of one row, from its first column; the words held zeros there.
  void store(const std::uint8_t* codes, int row, int count, RecordWords& words) const {
    for (int s = 0; s < slices_.count; ++s) {
      const Place* place = row_places(s, row);
      const std::uint32_t mask = (1U << slices_.bits[s]) - 1;
      for (int column = 0; column < count; ++column) {
        words[place[column].word] |= (codes[column] >> slices_.shift[s] & mask) << place[column].bit;
      }
    }
  }

  /// The inverse; `codes` held zeros.
  void load(const RecordWords& words, int row, int count, std::uint8_t* codes) const {
    for (int s = 0; s < slices_.count; ++s) {
      const Place* place = row_places(s, row);
      const std::uint32_t mask = (1U << slices_.bits[s]) - 1;
      for (int column = 0; column < count; ++column) {
        const std::uint32_t part = words[place[column].word] >> place[column].bit & mask;
        codes[column] = static_cast<std::uint8_t>(codes[column] | part << slices_.shift[s]);
      }
    }
  }

 private:
  struct Place {
    std::uint16_t word;
    std::uint8_t bit;
  };
  [[nodiscard]] const Place* row_places(int slice, int row) const {
    return places_[static_cast<std::size_t>(slice)].data() +
           static_cast<std::ptrdiff_t>(row) * layout::kRecordColumns;
  }

  layout::Slices slices_;
  std::array<std::array<Place, kRecordCodes>, std::size(layout::Slices{}.bits)> places_;
};

/// The part of the matrix that one record holds, and where the record begins.
struct Record {
  std::int64_t row;
  std::int64_t column;
  int rows;     // without padding
  int columns;  // without padding
  std::size_t offset;
};

std::int64_t record_offset(const WeightFormat& format, std::int64_t row, std::int64_t column) {
  return packed_layout(format).record_offset(static_cast<int>(row / layout::kRecordRows),
                                             static_cast<int>(column / layout::kRecordColumns));
}

template <class Visit>
void for_each_record(const WeightFormat& format, const Visit& visit) {
  for (std::int64_t row = 0; row < format.n; row += layout::kRecordRows) {
    const auto rows = static_cast<int>(std::min<std::int64_t>(layout::kRecordRows, format.n - row));
    for (std::int64_t column = 0; column < format.k; column += layout::kRecordColumns) {
      const auto columns =
          static_cast<int>(std::min<std::int64_t>(layout::kRecordColumns, format.k - column));
      visit(Record{row, column, rows, columns, static_cast<std::size_t>(record_offset(format, row, column))});
    }
  }
}

/// visit(index in row-major [n, groups], byte offset in the packed matrix)
template <class Visit>
void for_each_scale(const WeightFormat& format, const Visit& visit) {
  const PackedLayout packed = packed_layout(format);
  const std::int64_t groups = groups_per_row(format.group, format.k);
  for (std::int64_t row = 0; row < format.n; ++row) {
    for (std::int64_t group = 0; group < groups; ++group) {
      visit(static_cast<std::size_t>(row * groups + group),
            static_cast<std::size_t>(packed.scale_offset(static_cast<int>(row), static_cast<int>(group))));
    }
  }
}

/// visit(index of a value in the row-major tables [n, 2^bits], offset of its low byte, offset of its high
/// byte)
template <class Visit>
void for_each_row_table_value(const WeightFormat& format, const Visit& visit) {
  if (!format.row_tables()) return;
  const PackedLayout packed = packed_layout(format);
  const std::size_t length = std::size_t{1} << format.bits;
  for (std::int64_t row = 0; row < format.n; ++row) {
    const auto low = static_cast<std::size_t>(packed.row_table_offset(row));
    for (std::size_t code = 0; code < length; ++code) {
      visit(static_cast<std::size_t>(row) * length + code, low + code, low + length + code);
    }
  }
}

std::size_t row_start(const WeightFormat& format, const Record& record, int row) {
  return static_cast<std::size_t>((record.row + row) * format.k + record.column);
}

}  // namespace

std::int64_t groups_per_row(int group, std::int64_t k) {
  return group == kPerChannel ? 1 : (k + group - 1) / group;
}

Result<std::vector<std::byte>> pack(const QuantizedMatrix& matrix) {
  if (auto checked = quant::validate(matrix); !checked) return std::unexpected(checked.error());
  const WeightFormat& format = matrix.format;
  // Padding is what stays zero.
  auto packed = allocate<std::byte>(*packed_bytes(format), "packed weights");
  if (!packed) return packed;

  const CodePlaces places(format.bits);
  const auto bytes = static_cast<std::size_t>(packed_layout(format).code_bytes());
  for_each_record(format, [&](const Record& record) {
    RecordWords words{};
    for (int row = 0; row < record.rows; ++row) {
      places.store(&matrix.codes[row_start(format, record, row)], row, record.columns, words);
    }
    std::memcpy(packed->data() + record.offset, words.data(), bytes);
  });
  for_each_scale(format, [&](std::size_t index, std::size_t offset) {
    std::memcpy(packed->data() + offset, &matrix.scales[index], layout::kScaleBytes);
    if (format.offsets) {
      std::memcpy(packed->data() + offset + layout::kOffsetBehindScale, &matrix.offsets[index],
                  layout::kOffsetBytes);
    }
  });
  for_each_row_table_value(format, [&](std::size_t index, std::size_t low, std::size_t high) {
    (*packed)[low] = static_cast<std::byte>(matrix.table[index] & 0xff);
    (*packed)[high] = static_cast<std::byte>(matrix.table[index] >> 8);
  });
  return packed;
}

Result<QuantizedMatrix> unpack(std::span<const std::byte> packed, const WeightFormat& format) {
  const Result<std::size_t> expected = packed_bytes(format);
  if (!expected) return std::unexpected(expected.error());
  if (packed.size() != *expected) {
    return refuse(fmt::format("packed weights: {} bytes given; {} take {}", packed.size(),
                              quant::describe(format), *expected));
  }
  auto codes = allocate<std::uint8_t>(quant::weight_count(format), "codes");
  if (!codes) return std::unexpected(codes.error());
  auto scales = allocate<std::uint16_t>(quant::scale_count(format), "scales");
  if (!scales) return std::unexpected(scales.error());
  auto offsets = allocate<std::uint16_t>(format.offsets ? quant::scale_count(format) : 0, "offsets");
  if (!offsets) return std::unexpected(offsets.error());
  auto tables = allocate<std::uint16_t>(format.row_tables() ? table_values(format) : 0, "tables");
  if (!tables) return std::unexpected(tables.error());

  const CodePlaces places(format.bits);
  const auto bytes = static_cast<std::size_t>(packed_layout(format).code_bytes());
  for_each_record(format, [&](const Record& record) {
    RecordWords words;
    std::memcpy(words.data(), packed.data() + record.offset, bytes);
    for (int row = 0; row < record.rows; ++row) {
      places.load(words, row, record.columns, &(*codes)[row_start(format, record, row)]);
    }
  });
  for_each_scale(format, [&](std::size_t index, std::size_t offset) {
    std::memcpy(&(*scales)[index], packed.data() + offset, layout::kScaleBytes);
    if (format.offsets) {
      std::memcpy(&(*offsets)[index], packed.data() + offset + layout::kOffsetBehindScale,
                  layout::kOffsetBytes);
    }
  });
  for_each_row_table_value(format, [&](std::size_t index, std::size_t low, std::size_t high) {
    (*tables)[index] = static_cast<std::uint16_t>(std::to_integer<unsigned>(packed[low]) |
                                                  std::to_integer<unsigned>(packed[high]) << 8);
  });
  return QuantizedMatrix{format, std::move(*codes), std::move(*scales), std::move(*tables),
                         std::move(*offsets)};
}

}  // namespace lutsmith
