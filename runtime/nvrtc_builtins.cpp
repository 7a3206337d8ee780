#include "runtime/nvrtc_builtins.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <vector>

#include "core/shared_library.h"
#include "core/shared_object.h"

namespace lutsmith {
namespace {

namespace fs = std::filesystem;

/// Folders of the file itself first, then of the links that led to it.
std::vector<fs::path> folders_of(const std::string& named, const std::string& loaded) {
  std::vector<fs::path> folders;
  for (const fs::path file : {loaded, named}) {
    if (!file.has_parent_path()) continue;  // a bare name, which only the loader knows the place of
    std::error_code failed;
    for (const fs::path& folder : {fs::canonical(file, failed).parent_path(), file.parent_path()}) {
      if (!folder.empty() && std::ranges::find(folders, folder) == folders.end()) folders.push_back(folder);
    }
  }
  return folders;
}

}  // namespace

Result<void> open_nvrtc_builtins(const std::string& named, const std::string& loaded, int major, int minor) {
  // NVRTC comes in a second form, libnvrtc.alt.so, with built-ins of its own.
  std::error_code failed;
  const bool alternative = fs::canonical(loaded, failed).filename().native().contains(".alt.");
  const std::string name =
      fmt::format("libnvrtc-builtins{}.so.{}.{}", alternative ? ".alt" : "", major, minor);
  const std::vector<fs::path> folders = folders_of(named, loaded);
  for (const fs::path& folder : folders) {
    const std::string path = folder / name;
    const Result<void> whole = check_shared_object(path);
    if (!whole && whole.error().code == ErrorCode::not_found) continue;
    if (!whole) return std::unexpected(Error{whole.error().code, path + ": " + whole.error().message, ""});
    if (const auto opened = core::SharedLibrary::open(path); !opened) {
      return std::unexpected(Error{ErrorCode::corrupt_data, opened.error().message, ""});
    }
    return {};
  }
  std::vector<std::string> searched;
  for (const fs::path& folder : folders) searched.push_back(folder);
  return std::unexpected(
      Error{ErrorCode::not_found, fmt::format("there is no {} in {}", name, fmt::join(searched, ", ")), ""});
}

}  // namespace lutsmith
