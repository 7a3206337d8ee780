#include "lutsmith/weight_format.h"
#include "core/format_fields.h"
#include "core/result.h"
#include "templates/abi/packed_layout.h"

#include <fmt/format.h>

#include <charconv>

namespace lutsmith {
namespace {

constexpr int kMaxBits = 8;

bool known_group(int group) {
  return group == kPerChannel || group == 32 || group == 64 || group == 128 || group == 256;
}

}  // namespace

std::string_view to_string(DataType type) { return type == DataType::f16 ? "f16" : "bf16"; }

std::string_view to_string(TableKind kind) {
  switch (kind) {
    case TableKind::scalar:
      return "scalar";
    case TableKind::pair:
      return "pair";
    case TableKind::row:
      return "row";
  }
  return "unknown";
}

Result<DataType> parse_data_type(std::string_view name) {
  if (name == "f16" || name == "fp16") return DataType::f16;
  if (name == "bf16") return DataType::bf16;
  return refuse(fmt::format("dtype: '{}' is not known; allowed: f16, bf16", name));
}

Result<TableKind> parse_table_kind(std::string_view name) {
  for (const TableKind kind : {TableKind::scalar, TableKind::pair, TableKind::row}) {
    if (to_string(kind) == name) return kind;
  }
  return refuse(fmt::format("table: '{}' is not known; allowed: scalar, pair, row", name));
}

std::string group_name(int group) { return group == kPerChannel ? "channel" : fmt::format("{}", group); }

Result<int> parse_group(std::string_view name) {
  if (name == "channel") return kPerChannel;
  int group = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), group);
  if (error != std::errc{} || end != name.data() + name.size() || group == kPerChannel) {
    return refuse(fmt::format("group: '{}' is not allowed; allowed: 32, 64, 128, 256, channel", name));
  }
  return group;
}

Result<void> validate_bits(int bits) {
  if (bits >= 1 && bits <= kMaxBits) return {};
  return refuse(fmt::format("bits: {} is not allowed; allowed: 1 to {}", bits, kMaxBits));
}

Result<void> validate(DataType dtype) {
  if (dtype == DataType::f16 || dtype == DataType::bf16) return {};
  return refuse(fmt::format("dtype: {} is not allowed; allowed: f16, bf16", static_cast<int>(dtype)));
}

Result<void> validate(TableKind kind) {
  if (kind == TableKind::scalar || kind == TableKind::pair || kind == TableKind::row) return {};
  return refuse(fmt::format("table: {} is not allowed; allowed: scalar, pair, row", static_cast<int>(kind)));
}

Result<void> validate(const WeightFormat& format) {
  if (auto checked = validate_bits(format.bits); !checked) return checked;
  if (!known_group(format.group)) {
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
  if (auto checked = validate(format.dtype); !checked) return checked;
  return validate(format.table);
}

Result<std::size_t> packed_bytes(const WeightFormat& format) {
  if (Result<void> valid = validate(format); !valid) return failure(valid);
  return static_cast<std::size_t>(packed_layout(format).packed_bytes());
}

int table_length(int bits, TableKind kind) { return kind == TableKind::pair ? 2 << (2 * bits) : 1 << bits; }

std::size_t table_values(const WeightFormat& format) {
  const auto each = static_cast<std::size_t>(table_length(format.bits, format.table));
  return format.row_tables() ? static_cast<std::size_t>(format.n) * each : each;
}

int launched_table_length(const WeightFormat& format) {
  return format.row_tables() ? 0 : table_length(format.bits, format.table);
}

}  // namespace lutsmith
