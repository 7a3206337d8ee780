#include "quant/validation.h"
#include "core/result.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace lutsmith::quant {
namespace {

// Products of two sizes, and the bytes of what they count, stay far inside 64 bits.
constexpr std::int64_t kMaxSize = std::int64_t{1} << 24;

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

Result<void> validate_bits(int bits, int lowest) {
  if (bits >= lowest && bits <= 8) return {};
  return refuse(fmt::format("bits: {} is not allowed; allowed: {} to 8", bits, lowest));
}

Result<void> validate(DataType dtype) {
  if (dtype == DataType::fp16 || dtype == DataType::bf16) return {};
  return refuse(fmt::format("dtype: {} is not allowed; allowed: fp16, bf16", static_cast<int>(dtype)));
}

Result<void> validate(TableKind kind) {
  if (kind == TableKind::scalar || kind == TableKind::pair) return {};
  return refuse(fmt::format("table kind: {} is not allowed; allowed: scalar, pair", static_cast<int>(kind)));
}

Result<void> validate(const PackedFormat& format) {
  if (auto bits = validate_bits(format.bits); !bits) return bits;
  if (format.group != kPerChannel && format.group != 32 && format.group != 64 && format.group != 128 &&
      format.group != 256) {
    return refuse(fmt::format("group: {} is not allowed; allowed: 32, 64, 128, 256, channel", format.group));
  }
  if (format.n < 1 || format.n > kMaxSize) {
    return refuse(fmt::format("n: {} is not allowed; allowed: 1 to {}", format.n, kMaxSize));
  }
  if (format.k < 8 || format.k > kMaxSize || format.k % 8 != 0) {
    return refuse(
        fmt::format("k: {} is not allowed; allowed: multiples of 8 from 8 to {}; pad the activations and "
                    "weights with zeros",
                    format.k, kMaxSize));
  }
  return {};
}

Result<void> validate_table(int bits, TableKind kind, std::span<const float> values, DataType dtype) {
  if (auto checked = validate_bits(bits); !checked) return checked;
  if (auto checked = validate(kind); !checked) return checked;
  if (auto checked = validate(dtype); !checked) return checked;
  if (auto checked = validate_size(values.size(), static_cast<std::size_t>(table_length(bits, kind)), "table",
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

Result<void> validate(const QuantizedMatrix& matrix) {
  const PackedFormat& format = matrix.format;
  if (auto checked = validate(format); !checked) return checked;
  if (auto checked = validate(matrix.dtype); !checked) return checked;
  if (auto checked = validate(matrix.table_kind); !checked) return checked;
  if (auto checked = validate_size(matrix.codes.size(), weight_count(format), "codes", "n x k"); !checked) {
    return checked;
  }
  if (auto checked =
          validate_size(matrix.scales.size(), scale_count(format), "scales", "n x groups of a row");
      !checked) {
    return checked;
  }
  if (auto checked = validate_size(
          matrix.table.size(), static_cast<std::size_t>(table_length(format.bits, matrix.table_kind)),
          "table", fmt::format("{} bits, {}", format.bits, to_string(matrix.table_kind)));
      !checked) {
    return checked;
  }
  const unsigned highest = (1U << format.bits) - 1;
  if (const std::int64_t index = first_code_above(matrix.codes, highest); index >= 0) {
    return refuse(fmt::format("codes: {} at row {}, column {}; allowed with {} bits: 0 to {}",
                              matrix.codes[static_cast<std::size_t>(index)], index / format.k,
                              index % format.k, format.bits, highest));
  }
  if (auto checked = validate_finite(matrix.scales, matrix.dtype, "scales"); !checked) return checked;
  return validate_finite(matrix.table, matrix.dtype, "table");
}

}  // namespace lutsmith::quant
