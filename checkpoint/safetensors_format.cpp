#include "checkpoint/safetensors_format.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <ranges>

namespace lutsmith::checkpoint {
namespace {

struct ElementType {
  std::string_view name;
  int bits;
};

constexpr std::array kElementTypes = {
    // As the format's own library has them (safetensors 0.8).
    ElementType{"BOOL", 8},        ElementType{"F4", 4},          ElementType{"F6_E2M3", 6},
    ElementType{"F6_E3M2", 6},     ElementType{"U8", 8},          ElementType{"I8", 8},
    ElementType{"F8_E5M2", 8},     ElementType{"F8_E4M3", 8},     ElementType{"F8_E8M0", 8},
    ElementType{"F8_E4M3FNUZ", 8}, ElementType{"F8_E5M2FNUZ", 8}, ElementType{"U16", 16},
    ElementType{"I16", 16},        ElementType{"F16", 16},        ElementType{"BF16", 16},
    ElementType{"U32", 32},        ElementType{"I32", 32},        ElementType{"F32", 32},
    ElementType{"U64", 64},        ElementType{"I64", 64},        ElementType{"F64", 64},
    ElementType{"C64", 64},
};

}  // namespace

std::optional<int> element_bits(std::string_view dtype) {
  const auto* const found = std::ranges::find(kElementTypes, dtype, &ElementType::name);
  if (found == kElementTypes.end()) return std::nullopt;
  return found->bits;
}

std::string known_dtypes() {
  return fmt::format("{}", fmt::join(kElementTypes | std::views::transform(&ElementType::name), ", "));
}

std::expected<std::uint64_t, std::string> tensor_bytes(std::string_view dtype,
                                                       std::span<const std::int64_t> shape) {
  const std::optional<int> bits = element_bits(dtype);
  if (!bits) {
    return std::unexpected(
        fmt::format("dtype {} is not known; allowed: {}", shown_name(dtype), known_dtypes()));
  }
  if (shape.size() > kMaxDimensions) {
    return std::unexpected(
        fmt::format("shape has {} dimensions; allowed: up to {}", shape.size(), kMaxDimensions));
  }
  auto total = static_cast<std::uint64_t>(*bits);
  for (const std::int64_t size : shape) {
    if (size < 0) return std::unexpected(fmt::format("shape has the negative size {}", size));
    if (__builtin_mul_overflow(total, static_cast<std::uint64_t>(size), &total)) {
      return std::unexpected(
          fmt::format("shape [{}] is larger than 64 bits can count", fmt::join(shape, ", ")));
    }
  }
  if (total % 8 != 0) {
    return std::unexpected(
        fmt::format("shape [{}] of {} does not fill whole bytes", fmt::join(shape, ", "), dtype));
  }
  return total / 8;
}

std::string shown_name(std::string_view name) {
  constexpr std::size_t kShown = 80;
  std::string shown = "'";
  for (const char c : name.substr(0, kShown)) {
    shown += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? '?' : c;
  }
  return shown + (name.size() > kShown ? "...'" : "'");
}

}  // namespace lutsmith::checkpoint
