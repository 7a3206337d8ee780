#pragma once

#include <cstdint>
#include <expected>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace lutsmith::checkpoint {

/// One tensor as the header states it; only the form is checked, not whether the numbers are true.
struct HeaderEntry {
  std::string dtype;
  std::vector<std::int64_t> shape;
  std::vector<std::int64_t> offsets;  ///< two: begin, end
};

struct SafetensorsHeader {
  std::map<std::string, HeaderEntry> tensors;
  std::map<std::string, std::string> metadata;
};

/// Reads the JSON text of a header. The error is the reason alone. Takes neither more memory nor
/// more stack than a small multiple of the text's length, whatever it holds.
std::expected<SafetensorsHeader, std::string> parse_safetensors_header(std::string_view text);

}  // namespace lutsmith::checkpoint
