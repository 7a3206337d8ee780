#include "cache/directory.h"

#include <pwd.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <system_error>

namespace lutsmith::cache {
namespace {

std::string environment_variable(const char* name) {
  const char* value = std::getenv(name);  // NOLINT(concurrency-mt-unsafe): read only
  return value != nullptr ? value : "";
}

std::string home_in_user_database() {
  std::array<char, 4096> buffer{};
  passwd record{};
  passwd* found = nullptr;
  if (getpwuid_r(geteuid(), &record, buffer.data(), buffer.size(), &found) != 0 || found == nullptr)
    return {};
  return found->pw_dir != nullptr ? found->pw_dir : "";
}

}  // namespace

DirectoryEnvironment DirectoryEnvironment::of_process() {
  return {.lutsmith_cache_dir = environment_variable("LUTSMITH_CACHE_DIR"),
          .xdg_cache_home = environment_variable("XDG_CACHE_HOME"),
          .home = environment_variable("HOME"),
          .passwd_home = home_in_user_database()};
}

std::filesystem::path cache_directory(const DirectoryEnvironment& environment) {
  namespace fs = std::filesystem;
  if (!environment.lutsmith_cache_dir.empty()) {
    std::error_code failed;
    fs::path absolute = fs::absolute(environment.lutsmith_cache_dir, failed);
    return failed ? fs::path() : absolute;
  }
  // The XDG specification has relative paths ignored; a relative home would follow the working directory.
  const fs::path xdg = environment.xdg_cache_home;
  if (xdg.is_absolute()) return xdg / "lutsmith";
  for (const fs::path home : {environment.home, environment.passwd_home}) {
    if (home.is_absolute()) return home / ".cache" / "lutsmith";
  }
  return {};
}

}  // namespace lutsmith::cache
