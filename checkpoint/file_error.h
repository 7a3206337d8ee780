#pragma once

#include <fmt/format.h>

#include <filesystem>
#include <string_view>

#include "lutsmith/error.h"

namespace lutsmith::checkpoint {

/// "PATH: REASON".
inline std::unexpected<Error> file_error(ErrorCode code, const std::filesystem::path& path,
                                         std::string_view reason) {
  return std::unexpected(Error{code, fmt::format("{}: {}", path.string(), reason), {}});
}

}  // namespace lutsmith::checkpoint
