#include "cli/output/printable.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <vector>

namespace lutsmith::cli {
namespace {

struct Character {
  char32_t value = 0;
  std::size_t bytes = 0;  ///< 0: no UTF-8 begins here
};

// The first character of a text that is not empty. RFC 3629: the shortest form only, no surrogates.
Character first_character(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return {lead, 1};
  const std::size_t bytes = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  constexpr char32_t kSmallest[] = {0, 0, 0x80, 0x800, 0x10000};
  if (lead < 0xc2 || lead > 0xf4 || text.size() < bytes) return {};
  char32_t value = lead & (0x7fU >> bytes);
  for (std::size_t i = 1; i < bytes; ++i) {
    if ((byte(i) & 0xc0U) != 0x80) return {};
    value = value << 6 | (byte(i) & 0x3fU);
  }
  if (value < kSmallest[bytes] || value > 0x10ffff || (value >= 0xd800 && value <= 0xdfff)) return {};
  return {value, bytes};
}

// Controls of C0 and C1, and what is not seen but changes what is: zero-width and bidirectional marks, line
// and paragraph separators, the byte order mark.
bool is_harmful(char32_t value) {
  return value < 0x20 || (value >= 0x7f && value < 0xa0) || value == 0xad || value == 0x61c ||
         (value >= 0x200b && value <= 0x200f) || (value >= 0x2028 && value <= 0x202e) ||
         (value >= 0x2060 && value <= 0x206f) || value == 0xfeff;
}

// The text in pieces, each what one character of it looks like.
std::vector<std::string> pieces(std::string_view text) {
  std::vector<std::string> result;
  while (!text.empty()) {
    const Character character = first_character(text);
    const std::size_t bytes = std::max<std::size_t>(character.bytes, 1);
    if (character.bytes == 0 || character.value < 0x80) {
      const auto byte = static_cast<unsigned char>(text.front());
      const bool plain = character.bytes == 1 && !is_harmful(character.value);
      result.push_back(plain ? std::string(1, text.front()) : fmt::format("\\x{:02x}", byte));
    } else if (is_harmful(character.value)) {
      result.push_back(fmt::format("\\u{:04x}", static_cast<std::uint32_t>(character.value)));
    } else {
      result.emplace_back(text.substr(0, bytes));
    }
    text.remove_prefix(bytes);
  }
  return result;
}

// Characters of a piece: an escape is as many as it has bytes.
std::size_t width_of(const std::string& piece) { return piece.starts_with('\\') ? piece.size() : 1; }

}  // namespace

std::string printable(std::string_view text) {
  std::string result;
  for (const std::string& piece : pieces(text)) result += piece;
  return result;
}

std::string printable(std::string_view text, std::size_t width) {
  constexpr std::string_view kGap = "...";
  const std::vector<std::string> all = pieces(text);
  std::size_t needed = 0;
  for (const std::string& piece : all) needed += width_of(piece);
  if (needed <= width) return printable(text);
  std::string begin;
  std::string end;
  // The end tells more than the middle: "....mlp.down_proj.weight".
  const std::size_t room = width - std::min(width, kGap.size());
  std::size_t used = 0;
  for (auto piece = all.rbegin(); piece != all.rend() && used + width_of(*piece) <= room / 2; ++piece) {
    used += width_of(*piece);
    end.insert(0, *piece);
  }
  for (auto piece = all.begin(); piece != all.end() && used + width_of(*piece) <= room; ++piece) {
    used += width_of(*piece);
    begin += *piece;
  }
  return begin + std::string(kGap) + end;
}

}  // namespace lutsmith::cli
