#include "quant/validation.h"
#include "core/format_fields.h"
#include "core/result.h"
#include "lutsmith/kernel_spec.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace lutsmith::quant {
namespace {

std::int64_t first_code_above(std::span<const std::uint8_t> codes, unsigned highest) {
  unsigned all = 0;
  for (const std::uint8_t code : codes) all |= code;
  if (all <= highest) return -1;  // 2^bits - 1 is all ones, so the union exceeds it with any member
  return std::ranges::find_if(codes, [=](std::uint8_t code) { return code > highest; }) - codes.begin();
}

Result<void> validate_finite(std::span<const std::uint16_t> numbers, DataType dtype, std::string_view field) {
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    const float value = from_bits(numbers[i], dtype);
    if (!std::isfinite(value)) {
      return refuse(fmt::format("{}: {} at index {}; every value must be finite", field, value, i));
    }
  }
  return {};
}

Result<void> validate_size(std::size_t given, std::size_t expected, std::string_view field,
                           std::string_view formula) {
  if (given == expected) return {};
  return refuse(fmt::format("{}: {} values given; allowed: {} ({})", field, given, expected, formula));
}

}  // namespace

Result<void> validate_table(int bits, TableKind kind, std::span<const float> values, DataType dtype) {
  if (auto checked = validate_bits(bits); !checked) return checked;
  if (auto checked = lutsmith::validate(kind); !checked) return checked;
  if (auto checked = lutsmith::validate(dtype); !checked) return checked;
  const auto length = static_cast<std::size_t>(table_length(bits, kind));
  if (kind == TableKind::row) {
    if (values.empty() || values.size() % length != 0) {
      return refuse(fmt::format("table: {} values given; allowed: {} for each row ({} bits, {})",
                                values.size(), length, bits, to_string(kind)));
    }
  } else if (auto checked = validate_size(values.size(), length, "table",
                                          fmt::format("{} bits, {}", bits, to_string(kind)));
             !checked) {
    return checked;
  }
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (!std::isfinite(values[i])) {
      return refuse(fmt::format("table: {} at index {}; every value must be finite", values[i], i));
    }
    if (!std::isfinite(from_bits(to_bits(values[i], dtype), dtype))) {
      return refuse(fmt::format("table: {} at index {} is beyond the range of {}; scale the table down",
                                values[i], i, to_string(dtype)));
    }
  }
  return {};
}

std::string describe(const WeightFormat& format) {
  return fmt::format("{} bits, group {}{}{}, n {} and k {}", format.bits, group_name(format.group),
                     format.offsets ? " with offsets" : "", format.row_tables() ? ", tables of rows" : "",
                     format.n, format.k);
}

Result<void> validate_importance(std::span<const float> importance, std::int64_t k) {
  if (importance.empty()) return {};
  if (auto checked = validate_size(importance.size(), static_cast<std::size_t>(k), "importance",
                                   "k: one for each input channel, or none at all");
      !checked) {
    return checked;
  }
  for (std::size_t i = 0; i < importance.size(); ++i) {
    if (!std::isfinite(importance[i]) || importance[i] < 0) {
      return refuse(fmt::format("importance: {} at index {}; allowed: 0 and every positive finite number",
                                importance[i], i));
    }
  }
  return {};
}

Result<void> validate(const QuantizedMatrix& matrix) {
  const WeightFormat& format = matrix.format;
  if (auto checked = lutsmith::validate(format); !checked) return checked;
  if (auto checked = validate_size(matrix.codes.size(), weight_count(format), "codes", "n x k"); !checked) {
    return checked;
  }
  if (auto checked =
          validate_size(matrix.scales.size(), scale_count(format), "scales", "n x groups of a row");
      !checked) {
    return checked;
  }
  constexpr int kAnyRows = 1;
  if (!matrix.segments.empty()) {
    if (format.row_tables()) {
      return refuse(fmt::format("segments: {} given; allowed: none, where each row has a table of its own",
                                matrix.segments.size()));
    }
    if (auto checked = validate_segments(matrix.segments, kAnyRows, format.n); !checked) return checked;
  }
  const std::size_t tables = std::max<std::size_t>(1, matrix.segments.size());
  if (auto checked = validate_size(matrix.table.size(), tables * table_values(format), "table",
                                   fmt::format("{} bits, {}{}", format.bits, to_string(format.table),
                                               tables == 1 ? "" : fmt::format(", {} segments", tables)));
      !checked) {
    return checked;
  }
  const std::size_t offsets = format.offsets ? scale_count(format) : 0;
  if (auto checked = validate_size(matrix.offsets.size(), offsets, "offsets",
                                   format.offsets ? "n x groups of a row" : "the format has none");
      !checked) {
    return checked;
  }
  const unsigned highest = (1U << format.bits) - 1;
  if (const std::int64_t index = first_code_above(matrix.codes, highest); index >= 0) {
    return refuse(fmt::format("codes: {} at row {}, column {}; allowed with {} bits: 0 to {}",
                              matrix.codes[static_cast<std::size_t>(index)], index / format.k,
                              index % format.k, format.bits, highest));
  }
  if (auto checked = validate_finite(matrix.scales, format.dtype, "scales"); !checked) return checked;
  if (auto checked = validate_finite(matrix.offsets, format.dtype, "offsets"); !checked) return checked;
  return validate_finite(matrix.table, format.dtype, "table");
}

}  // namespace lutsmith::quant
