#include "quant/host_matrix.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>
#include <vector>

#include "core/allocate.h"
#include "core/parallel.h"
#include "core/result.h"
#include "core/rounded_once.h"
#include "quant/packed_rows.h"
#include "quant/validation.h"
#include "templates/abi/packed_layout.h"

namespace lutsmith {
namespace {

std::size_t size_of(HostType type) { return type == HostType::f32 ? sizeof(float) : sizeof(std::uint16_t); }

DataType sixteen_bits(HostType type) { return type == HostType::f16 ? DataType::f16 : DataType::bf16; }

std::size_t row_offset(std::int64_t row, std::int64_t stride, HostType type) {
  return static_cast<std::size_t>(row * stride) * size_of(type);
}

void read_row(const HostMatrix& matrix, std::int64_t row, std::span<float> into) {
  const std::byte* const from =
      static_cast<const std::byte*>(matrix.data) + row_offset(row, matrix.stride, matrix.type);
  if (matrix.type == HostType::f32) {
    std::memcpy(into.data(), from, into.size_bytes());
    return;
  }
  const DataType type = sixteen_bits(matrix.type);
  for (std::size_t i = 0; i < into.size(); ++i) {
    std::uint16_t bits = 0;
    std::memcpy(&bits, from + i * sizeof(bits), sizeof(bits));
    into[i] = from_bits(bits, type);
  }
}

void write_row(std::span<const float> row, std::byte* into, HostType type) {
  if (type == HostType::f32) {
    std::memcpy(into, row.data(), row.size_bytes());
    return;
  }
  const DataType rounded_to = sixteen_bits(type);
  for (std::size_t i = 0; i < row.size(); ++i) {
    const std::uint16_t bits = to_bits(row[i], rounded_to);
    std::memcpy(into + i * sizeof(bits), &bits, sizeof(bits));
  }
}

Result<void> check_packed_size(std::size_t given, const WeightFormat& format) {
  Result<std::size_t> expected = packed_bytes(format);
  if (!expected) return failure(expected);
  if (given == *expected) return {};
  return refuse(fmt::format("packed: {} bytes given; {} take {}", given, quant::describe(format), *expected));
}

Result<void> check_stride(std::int64_t stride, std::int64_t k) {
  if (stride >= k) return {};
  return refuse(
      fmt::format("stride: {} is not allowed; allowed: k ({}) or more numbers between rows", stride, k));
}

Result<void> check_count(std::size_t given, std::size_t expected, std::string_view name) {
  if (given == expected) return {};
  return refuse(fmt::format("{}: {} values given; allowed: {}", name, given, expected));
}

/// Packs rows of a matrix of `format` into their places.
Result<void> pack_slab(const QuantizedMatrix& rows, const WeightFormat& format, const RowSlab& slab,
                       std::span<std::byte> packed) {
  const auto packed_slab = pack(rows);
  if (!packed_slab) return std::unexpected(packed_slab.error());
  for (const PackedPiece& piece : packed_pieces(slab, format, *packed_slab)) {
    std::ranges::copy(piece.bytes, packed.begin() + static_cast<std::ptrdiff_t>(piece.offset));
  }
  return {};
}

/// The tables of a slab's rows, where each has its own, else the one table.
Table table_of(const RowSlab& slab, const WeightFormat& format, const Table& table) {
  if (!format.row_tables()) return table;
  const std::ptrdiff_t length = table_length(format.bits, format.table);
  const auto first = table.values.begin() + slab.first * length;
  return {table.name, table.bits, table.kind, {first, first + slab.rows * length}};
}

Result<void> quantize_slab(const HostMatrix& weights, const WeightFormat& format, const Table& table,
                           const QuantizationOptions& options, const RowSlab& slab, QuantizationLoss& loss,
                           std::span<std::byte> packed) {
  const auto columns = static_cast<std::size_t>(format.k);
  std::vector<float> numbers(static_cast<std::size_t>(slab.rows) * columns);
  for (std::int64_t row = 0; row < slab.rows; ++row) {
    read_row(weights, slab.first + row,
             std::span(numbers).subspan(static_cast<std::size_t>(row) * columns, columns));
  }
  loss.rows = slab.first;
  const Table of_slab = table_of(slab, format, table);
  const auto quantized =
      quantize(numbers, slab.rows, format.k, of_slab, format.group, format.dtype, loss, options);
  if (!quantized) return std::unexpected(quantized.error());
  return pack_slab(*quantized, format, slab, packed);
}

WeightFormat format_of(const RowSlab& slab, const WeightFormat& matrix) {
  WeightFormat of_slab = matrix;
  of_slab.n = slab.rows;
  return of_slab;
}

/// Codes and scales of a slab, which is cut out of the matrix as a packed matrix of its own.
Result<QuantizedMatrix> unpack_slab(std::span<const std::byte> packed, const WeightFormat& format,
                                    const RowSlab& slab) {
  const WeightFormat of_slab = format_of(slab, format);
  std::vector<std::byte> cut(static_cast<std::size_t>(packed_layout(of_slab).packed_bytes()));
  std::byte* place = cut.data();
  for (const PackedPiece& piece : packed_pieces(slab, format, cut)) {
    std::memcpy(place, packed.data() + piece.offset, piece.bytes.size());
    place += piece.bytes.size();
  }
  return unpack(cut, of_slab);
}

/// Where the slab's rows are in an array with `each` elements for every row.
struct Extent {
  Extent(const RowSlab& slab, std::size_t each)
      : first(static_cast<std::size_t>(slab.first) * each),
        count(static_cast<std::size_t>(slab.rows) * each) {}
  std::size_t first;
  std::size_t count;
};

/// Elements for every row: codes, scales, offsets and values of its own table.
struct RowSizes {
  explicit RowSizes(const WeightFormat& format)
      : codes(static_cast<std::size_t>(format.k)),
        scales(static_cast<std::size_t>(groups_per_row(format.group, format.k))),
        offsets(format.offsets ? scales : 0),
        table(format.row_tables() ? std::size_t{1} << format.bits : 0) {}
  std::size_t codes;
  std::size_t scales;
  std::size_t offsets;
  std::size_t table;
};

Result<void> check_sizes(std::size_t packed, std::size_t codes, std::size_t scales, std::size_t offsets,
                         std::size_t tables, const WeightFormat& format) {
  if (auto fits = check_packed_size(packed, format); !fits) return fits;
  if (auto fits = check_count(codes, quant::weight_count(format), "codes"); !fits) return fits;
  if (auto fits = check_count(scales, quant::scale_count(format), "scales"); !fits) return fits;
  if (auto fits = check_count(offsets, format.offsets ? quant::scale_count(format) : 0, "offsets"); !fits) {
    return fits;
  }
  return check_count(tables, format.row_tables() ? table_values(format) : 0, "tables");
}

/// What turns codes into weights, as floats: one table.
struct Values {
  Values(const WeightFormat& format, std::span<const std::uint16_t> table, HostType rounded_to)
      : bits(format.bits), kind(format.table), to_odd(rounded_to != HostType::f32) {
    for (const std::uint16_t value : table) values.push_back(from_bits(value, format.dtype));
  }

  /// An even number of codes. The product of two 16-bit floats is exact in a float, within its range.
  void multiply(std::span<const std::uint8_t> codes, float scale, float* into) const {
    if (kind != TableKind::pair) {
      for (std::size_t i = 0; i < codes.size(); ++i) into[i] = scale * values[codes[i]];
      return;
    }
    for (std::size_t i = 0; i + 1 < codes.size(); i += 2) {
      const std::size_t pair = 2 * (codes[i] + (std::size_t{codes[i + 1]} << bits));
      into[i] = scale * values[pair];
      into[i + 1] = scale * values[pair + 1];
    }
  }

  /// The sum of products and an offset needs more than a float: rounded so that another rounding, to the 16
  /// bits of `rounded_to`, makes no difference.
  void add_offset(std::span<const std::uint8_t> codes, float scale, float offset, float* into) const {
    for (std::size_t i = 0; i < codes.size(); ++i) {
      const std::size_t pair =
          kind != TableKind::pair ? 0 : codes[i & ~std::size_t{1}] + (std::size_t{codes[i | 1]} << bits);
      const float value = kind != TableKind::pair ? values[codes[i]] : values[2 * pair + (i & 1)];
      const double sum = core::sum_to_odd(double{scale} * value, offset);
      into[i] = to_odd ? core::float_to_odd(sum) : static_cast<float>(sum);
    }
  }

  int bits;
  TableKind kind;
  bool to_odd;
  std::vector<float> values;
};

/// Those of each row that has no table of its own: one table, or that of the row's segment.
class ValuesOfRows {
 public:
  ValuesOfRows(const WeightFormat& format, std::span<const std::uint16_t> tables,
               std::span<const std::int64_t> segments, HostType rounded_to) {
    const auto length = static_cast<std::size_t>(table_length(format.bits, format.table));
    std::int64_t end = 0;
    for (const std::int64_t rows : segments) ends_.push_back(end += rows);
    for (std::size_t first = 0; first < tables.size(); first += length) {
      of_segments_.emplace_back(format, tables.subspan(first, length), rounded_to);
    }
  }

  [[nodiscard]] const Values& of(std::int64_t row) const {
    return of_segments_[static_cast<std::size_t>(std::ranges::upper_bound(ends_, row) - ends_.begin())];
  }

 private:
  std::vector<std::int64_t> ends_;  ///< rows behind each segment
  std::vector<Values> of_segments_;
};

/// `into`: where the slab's first row goes; `common`: of rows that have no table of their own.
Result<void> dequantize_slab(std::span<const std::byte> packed, const WeightFormat& format,
                             const ValuesOfRows& common, const RowSlab& slab, std::byte* into,
                             const WritableHostMatrix& weights) {
  Result<QuantizedMatrix> matrix = unpack_slab(packed, format, slab);
  if (!matrix) return failure(matrix);
  const std::int64_t group = quant::group_columns(format);
  std::vector<float> row(static_cast<std::size_t>(format.k));
  const std::uint8_t* codes = matrix->codes.data();
  const std::uint16_t* scale = matrix->scales.data();
  const std::uint16_t* offset = matrix->offsets.data();
  const std::size_t table = RowSizes(format).table;
  for (std::int64_t i = 0; i < slab.rows; ++i) {
    std::optional<Values> own;
    if (format.row_tables()) {
      own.emplace(format, std::span(matrix->table).subspan(static_cast<std::size_t>(i) * table, table),
                  weights.type);
    }
    const Values& values = own ? *own : common.of(slab.first + i);
    for (std::int64_t column = 0; column < format.k; column += group) {
      const auto columns = static_cast<std::size_t>(std::min(group, format.k - column));
      const float group_scale = from_bits(*scale++, format.dtype);
      if (format.offsets) {
        values.add_offset({codes, columns}, group_scale, from_bits(*offset++, format.dtype),
                          row.data() + column);
      } else {
        values.multiply({codes, columns}, group_scale, row.data() + column);
      }
      codes += columns;
    }
    write_row(row, into + row_offset(i, weights.stride, weights.type), weights.type);
  }
  return {};
}

}  // namespace

Result<HostType> parse_host_type(std::string_view name) {
  if (name == "f32") return HostType::f32;
  if (name == "f16") return HostType::f16;
  if (name == "bf16") return HostType::bf16;
  return refuse(fmt::format("type: '{}' is not known; allowed: f32, f16, bf16", name));
}

Result<QuantizationLoss> quantize_matrix(const HostMatrix& weights, const WeightFormat& format,
                                         const Table& table, std::span<std::byte> packed, unsigned jobs,
                                         const QuantizationOptions& options) {
  if (auto fits = check_packed_size(packed.size(), format); !fits) return failure(fits);
  if (auto wide = check_stride(weights.stride, format.k); !wide) return failure(wide);
  if (auto fits = check_count(table.values.size(), table_values(format), "table"); !fits)
    return failure(fits);
  if (format.offsets) {
    return refuse(
        "offsets: on is not allowed here, as scales alone are chosen; quantize without offsets, or pack "
        "codes, scales and offsets of your own");
  }
  const std::vector<RowSlab> slabs = row_slabs(format.n, format.k);
  std::vector<QuantizationLoss> losses(slabs.size());
  auto done = parallel_until_error(slabs.size(), job_count(static_cast<int>(jobs)), [&](std::size_t i) {
    return quantize_slab(weights, format, table, options, slabs[i], losses[i], packed);
  });
  if (!done) return failure(done);
  QuantizationLoss loss;
  for (const QuantizationLoss& slab : losses) loss.add(slab);
  return value_after(check_loss(loss, format.dtype), loss);
}

Result<LearnedTable> learn_matrix_table(const HostMatrix& weights, const WeightFormat& format,
                                        const LearningOptions& options) {
  if (auto checked = validate(format); !checked) return failure(checked);
  if (auto wide = check_stride(weights.stride, format.k); !wide) return failure(wide);
  const std::vector<std::int64_t> rows = learning_rows(format.n, format.k);
  const auto columns = static_cast<std::size_t>(format.k);
  auto numbers = allocate<float>(rows.size() * columns, "weights to learn from");
  if (!numbers) return failure(numbers);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    read_row(weights, rows[i], std::span(*numbers).subspan(i * columns, columns));
  }
  return learn_table(*numbers, static_cast<std::int64_t>(rows.size()), format.k, format.bits, format.group,
                     format.dtype, options);
}

Result<void> dequantize_matrix(std::span<const std::byte> packed, const WeightFormat& format,
                               std::span<const std::uint16_t> table, std::int64_t first_row,
                               std::int64_t rows, const WritableHostMatrix& weights, unsigned jobs,
                               std::span<const std::int64_t> segments) {
  if (auto fits = check_packed_size(packed.size(), format); !fits) return fits;
  if (auto wide = check_stride(weights.stride, format.k); !wide) return wide;
  constexpr int kAnyRows = 1;
  if (!segments.empty()) {
    if (auto checked = validate_segments(segments, kAnyRows, format.n); !checked) return checked;
    if (format.row_tables()) {
      return refuse("segments: not allowed where rows have tables of their own; leave them out");
    }
  }
  const std::size_t length =
      std::max<std::size_t>(1, segments.size()) * static_cast<std::size_t>(launched_table_length(format));
  if (auto fits = check_count(table.size(), length, "table"); !fits) return fits;
  if (first_row < 0 || first_row % layout::kPanelRows != 0 || rows < 0 || first_row > format.n - rows) {
    return refuse(
        fmt::format("rows: {} from row {} on are not allowed; allowed: within the {} of the matrix, from a "
                    "multiple of {} on",
                    rows, first_row, format.n, layout::kPanelRows));
  }
  std::vector<RowSlab> slabs = row_slabs(rows, format.k);
  const ValuesOfRows values(format, table, segments, weights.type);
  return parallel_until_error(slabs.size(), job_count(static_cast<int>(jobs)), [&](std::size_t i) {
    std::byte* const into =
        static_cast<std::byte*>(weights.data) + row_offset(slabs[i].first, weights.stride, weights.type);
    return dequantize_slab(packed, format, values, {first_row + slabs[i].first, slabs[i].rows}, into,
                           weights);
  });
}

Result<void> pack_matrix(std::span<const std::uint8_t> codes, std::span<const std::uint16_t> scales,
                         std::span<const std::uint16_t> offsets, std::span<const std::uint16_t> tables,
                         const WeightFormat& format, std::span<std::byte> packed, unsigned jobs) {
  if (auto fit =
          check_sizes(packed.size(), codes.size(), scales.size(), offsets.size(), tables.size(), format);
      !fit) {
    return fit;
  }
  const RowSizes row(format);
  // No part of what is packed, but of what `pack` checks.
  const std::vector<std::uint16_t> table(static_cast<std::size_t>(launched_table_length(format)));
  const std::vector<RowSlab> slabs = row_slabs(format.n, format.k);
  return parallel_until_error(slabs.size(), job_count(static_cast<int>(jobs)), [&](std::size_t i) {
    const auto part = [&](auto whole, std::size_t each) {
      const Extent extent(slabs[i], each);
      const auto of_slab = whole.subspan(extent.first, extent.count);
      return std::vector(of_slab.begin(), of_slab.end());
    };
    return pack_slab({format_of(slabs[i], format), part(codes, row.codes), part(scales, row.scales),
                      format.row_tables() ? part(tables, row.table) : table, part(offsets, row.offsets)},
                     format, slabs[i], packed);
  });
}

Result<void> unpack_matrix(std::span<const std::byte> packed, const WeightFormat& format,
                           std::span<std::uint8_t> codes, std::span<std::uint16_t> scales,
                           std::span<std::uint16_t> offsets, std::span<std::uint16_t> tables, unsigned jobs) {
  if (auto fit =
          check_sizes(packed.size(), codes.size(), scales.size(), offsets.size(), tables.size(), format);
      !fit) {
    return fit;
  }
  const RowSizes row(format);
  const std::vector<RowSlab> slabs = row_slabs(format.n, format.k);
  return parallel_until_error(
      slabs.size(), job_count(static_cast<int>(jobs)), [&](std::size_t i) -> Result<void> {
        Result<QuantizedMatrix> slab = unpack_slab(packed, format, slabs[i]);
        if (!slab) return failure(slab);
        const auto put = [&](const auto& part, auto whole, std::size_t each) {
          std::ranges::copy(part, whole.begin() + static_cast<std::ptrdiff_t>(Extent(slabs[i], each).first));
        };
        put(slab->codes, codes, row.codes);
        put(slab->scales, scales, row.scales);
        put(slab->offsets, offsets, row.offsets);
        put(slab->table, tables, row.table);
        return {};
      });
}

}  // namespace lutsmith
