#include "core/descriptor.h"

#include <fmt/format.h>
#include <unistd.h>

#include <system_error>

namespace lutsmith::core {

Error system_error(int number, std::string_view action, const std::filesystem::path& path) {
  return Error{ErrorCode::io_error,
               fmt::format("cannot {} {}: {}", action, path.native(),
                           std::error_code(number, std::generic_category()).message()),
               ""};
}

Descriptor::~Descriptor() { close(); }

int Descriptor::close() { return valid() ? ::close(std::exchange(number_, -1)) : 0; }

}  // namespace lutsmith::core
