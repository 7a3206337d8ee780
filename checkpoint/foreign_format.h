#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace lutsmith::checkpoint {

/// As many bytes of a file's beginning as `recognize_format` makes use of.
inline constexpr std::size_t kBytesToRecognize = 512;

/// What a file is that is not a safetensors file, and what to do with it, as the end of a message ("is a
/// ..."): people name files of many kinds *.safetensors, and servers answer with pages in place of files.
/// Nothing where the first bytes tell nothing; then the file is more likely a damaged one.
std::optional<std::string> recognize_format(std::string_view first_bytes);

}  // namespace lutsmith::checkpoint
