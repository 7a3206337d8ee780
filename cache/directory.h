#pragma once

#include <filesystem>
#include <string>

namespace lutsmith::cache {

/// What decides where the cache is. An empty member is one that is not set.
struct DirectoryEnvironment {
  std::string lutsmith_cache_dir;  ///< LUTSMITH_CACHE_DIR
  std::string xdg_cache_home;      ///< XDG_CACHE_HOME
  std::string home;                ///< HOME
  std::string passwd_home;         ///< home directory in the user database

  static DirectoryEnvironment of_process();
};

/// The cache directory: LUTSMITH_CACHE_DIR, else `lutsmith` in XDG_CACHE_HOME, else in `.cache` of the
/// home directory (HOME, else the user database). Empty where none of these is set: there is no place
/// then that is surely the user's own. Absolute; touches no file.
std::filesystem::path cache_directory(const DirectoryEnvironment& environment);

}  // namespace lutsmith::cache
