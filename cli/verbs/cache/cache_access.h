#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "cache/places.h"
#include "cache/stores/disk_store.h"
#include "cli/options/spec_request.h"
#include "lutsmith/error.h"
#include "runtime/manifest.h"

namespace lutsmith::cli {

/// The cache directory, for verbs that look after it.
struct OpenedCache {
  cache::Places places;
  std::unique_ptr<cache::DiskStore> store;
};

/// Opens the directory a service would use. With Access::read_only nothing in it is created or changed, and
/// it may be missing.
Result<std::unique_ptr<cache::DiskStore>> open_own_directory(const cache::Places& places,
                                                             cache::Access access);

/// The same for this process. Settings that make no sense are errors here.
Result<OpenedCache> open_cache(cache::Access access);

/// A directory of LUTSMITH_CACHE_PATH, or why it is passed over; not_found where it is not there.
struct SystemDirectory {
  std::filesystem::path path;
  Result<std::unique_ptr<cache::DiskStore>> store;
};
std::vector<SystemDirectory> open_system_directories(const cache::Places& places);

/// The URL of the remote cache without user and password, or why it cannot be used.
Result<std::string> shown_url(const RemoteCache& server);

/// "at most 4.0 GiB and 100000 kernels".
std::string limits_text(const CacheLimits& limits);

/// An entry with what its manifest says.
struct CachedKernel {
  cache::Key key;
  std::uint64_t bytes = 0;  ///< of its file
  std::chrono::system_clock::time_point last_used = {};
  Description description;
};

/// Reads one entry and its manifest; corrupt_data where either is damaged, unsupported where it is of another
/// version, not_found where it is gone.
Result<Description> read_kernel(cache::DiskStore& store, const cache::Key& key, cache::Entry& entry);

struct CacheListing {
  std::vector<CachedKernel> kernels;  ///< used last first
  std::vector<cache::StoredEntry> damaged;
  std::vector<cache::StoredEntry> other_version;  ///< written by an older or newer version of lutsmith
};

/// All kernels in a directory, or those for one of `targets` where there are any. What those that cannot be
/// read are for nobody knows: they are told whatever the targets.
Result<CacheListing> list_kernels(cache::DiskStore& store, const std::vector<Target>& targets);

/// Keys of the store that begin with `digits`. Errors: invalid_argument where these are not 4 to 64
/// hexadecimal digits, not_found where no key does.
Result<std::vector<cache::Key>> find_keys(cache::DiskStore& store, const std::string& digits);

/// "2026-01-31 23:59", in local time.
std::string time_text(std::chrono::system_clock::time_point time);
/// "2026-01-31T23:59:59Z".
std::string time_json(std::chrono::system_clock::time_point time);

}  // namespace lutsmith::cli
