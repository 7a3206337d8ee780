#pragma once

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "lutsmith/cache.h"
#include "lutsmith/error.h"

namespace lutsmith::cache {

/// What decides where the cache is. An empty member is one that is not set.
struct PlacesEnvironment {
  std::string cache_dir;           ///< LUTSMITH_CACHE_DIR
  std::string cache_path;          ///< LUTSMITH_CACHE_PATH
  std::string cache_max_bytes;     ///< LUTSMITH_CACHE_MAX_BYTES
  std::string cache_max_entries;   ///< LUTSMITH_CACHE_MAX_ENTRIES
  std::string remote;              ///< LUTSMITH_REMOTE_CACHE
  std::string remote_mode;         ///< LUTSMITH_REMOTE_CACHE_MODE
  std::string remote_token;        ///< LUTSMITH_REMOTE_CACHE_TOKEN
  std::string remote_certificate;  ///< LUTSMITH_REMOTE_CACHE_CERTIFICATE
  std::string remote_key;          ///< LUTSMITH_REMOTE_CACHE_KEY
  std::string remote_authority;    ///< LUTSMITH_REMOTE_CACHE_CA
  std::string remote_connect_ms;   ///< LUTSMITH_REMOTE_CACHE_CONNECT_MS
  std::string xdg_cache_home;      ///< XDG_CACHE_HOME
  std::string home;                ///< HOME
  std::string passwd_home;         ///< home directory in the user database
  uid_t user = 0;

  static PlacesEnvironment of_process();
};

struct Places {
  /// Directories to keep entries in: the first that can be used. Absolute.
  std::vector<std::filesystem::path> own;
  /// Directories that are only read, the nearest first. Absolute.
  std::vector<std::filesystem::path> system;
  CacheLimits limits;
  RemoteCache remote;
  /// Settings that make no sense and were left out, a sentence each.
  std::vector<std::string> complaints;
};

/// Where the environment says that the cache is; touches no file.
///
/// The own directory is LUTSMITH_CACHE_DIR; else `lutsmith` in XDG_CACHE_HOME, else in `.cache` of the home
/// directory (HOME, else the user database), and after those `/var/tmp/lutsmith-<user id>`, for users in
/// containers who have no home, or none they may write to.
Places places(const PlacesEnvironment& environment);

/// "500M" as bytes; K, M, G and T are powers of 1024. Error: invalid_argument.
Result<std::uint64_t> parse_byte_size(std::string_view text);

}  // namespace lutsmith::cache
