#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace lutsmith::cli {

/// Text of other people's files, fit for a terminal: control characters, bytes that are no UTF-8 and
/// characters that reorder or hide the text around them appear as \x1b or \u202e. All else, backslashes
/// included, stays as it is, so that applying it twice changes nothing.
std::string printable(std::string_view text);

/// The same in at most `width` characters (8 or more): what is longer loses its middle, "model.lay...weight".
std::string printable(std::string_view text, std::size_t width);

}  // namespace lutsmith::cli
