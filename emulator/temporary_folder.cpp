#include "emulator/temporary_folder.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstdlib>
#include <string>
#include <system_error>

#include "core/environment.h"

namespace lutsmith::emulator {

Result<TemporaryFolder> TemporaryFolder::make(std::string_view name) {
  const std::string wanted = core::environment_variable("TMPDIR");
  const bool named = !wanted.empty();
  const std::filesystem::path place = named ? wanted : std::string("/tmp");
  std::string path = (place / fmt::format("{}-XXXXXX", name)).string();
  const core::ScratchLock lock;
  if (mkdtemp(path.data()) == nullptr) {
    const int error = errno;
    return std::unexpected(Error{
        ErrorCode::io_error,
        fmt::format("cannot make a temporary folder in {}{}: {}; set TMPDIR to a folder that can be written",
                    named ? "TMPDIR=" : "", place.string(), std::generic_category().message(error)),
        {}});
  }
  return TemporaryFolder(path, core::Scratch::folder(lock, path));
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  if (scratch_.owned()) std::filesystem::remove_all(path_, ignored);
}

}  // namespace lutsmith::emulator
