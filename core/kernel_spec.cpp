#include "lutsmith/kernel_spec.h"
#include "core/result.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

namespace lutsmith {
namespace {

// Sizes stay far below what 64-bit byte offsets and 32-bit tile numbers can hold.
constexpr std::int64_t kMaxSize = std::int64_t{1} << 24;

}  // namespace

std::string_view to_string(DataType type) { return type == DataType::fp16 ? "f16" : "bf16"; }

std::string_view to_string(TableKind kind) { return kind == TableKind::scalar ? "scalar" : "pair"; }

Result<DataType> parse_data_type(std::string_view name) {
  if (name == "f16" || name == "fp16") return DataType::fp16;
  if (name == "bf16") return DataType::bf16;
  return refuse(fmt::format("dtype: '{}' is not known; allowed: f16, bf16", name));
}

Result<TableKind> parse_table_kind(std::string_view name) {
  if (name == "scalar") return TableKind::scalar;
  if (name == "pair") return TableKind::pair;
  return refuse(fmt::format("table: '{}' is not known; allowed: scalar, pair", name));
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

std::int64_t token_bucket(std::int64_t m) {
  if (m < 1 || m > kMaxSize) return m;
  const auto* const found = std::ranges::lower_bound(kTokenBuckets, m);
  return found != kTokenBuckets.end() ? *found : kTokenBuckets.back();
}

Result<void> validate(const KernelSpec& spec) {
  if (spec.bits < 2 || spec.bits > 4) {
    return refuse(fmt::format("bits: {} is not allowed; allowed: 2, 3, 4", spec.bits));
  }
  if (spec.group != kPerChannel && spec.group != 32 && spec.group != 64 && spec.group != 128 &&
      spec.group != 256) {
    return refuse(fmt::format("group: {} is not allowed; allowed: 32, 64, 128, 256, channel", spec.group));
  }
  if (spec.n < 1 || spec.n > kMaxSize) {
    return refuse(fmt::format("n: {} is not allowed; allowed: 1 to {}", spec.n, kMaxSize));
  }
  if (spec.k < 8 || spec.k > kMaxSize || spec.k % 8 != 0) {
    return refuse(
        fmt::format("k: {} is not allowed; allowed: multiples of 8 from 8 to {}; pad the activations and "
                    "weights with zeros",
                    spec.k, kMaxSize));
  }
  if (spec.m < 1 || spec.m > kMaxSize) {
    return refuse(fmt::format("m: {} is not allowed; allowed: 1 to {}", spec.m, kMaxSize));
  }
  if (spec.dtype != DataType::fp16 && spec.dtype != DataType::bf16) {
    return refuse(fmt::format("dtype: {} is not allowed; allowed: fp16, bf16", static_cast<int>(spec.dtype)));
  }
  if (spec.table != TableKind::scalar && spec.table != TableKind::pair) {
    return refuse(
        fmt::format("table: {} is not allowed; allowed: scalar, pair", static_cast<int>(spec.table)));
  }
  return {};
}

int table_length(int bits, TableKind kind) { return kind == TableKind::scalar ? 1 << bits : 2 << (2 * bits); }

std::string describe(const KernelSpec& spec) {
  return fmt::format("w{} g{} {}x{} m{} {} {} {}", spec.bits, group_name(spec.group), spec.n, spec.k, spec.m,
                     to_string(spec.dtype), to_string(spec.table), spec.target.name());
}

}  // namespace lutsmith
