#include "cli/verbs/cache/cache_access.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <string_view>
#include <system_error>
#include <tuple>
#include <utility>

#include "cache/stores/http_client.h"
#include "cli/output/output.h"

namespace lutsmith::cli {

namespace {

namespace fs = std::filesystem;

/// Those used last first. Kernels of one second, as `warm` makes them, stand in the order of what they
/// compute.
bool listed_before(const CachedKernel& one, const CachedKernel& other) {
  if (one.last_used != other.last_used) return one.last_used > other.last_used;
  const auto order = [](const CachedKernel& kernel) {
    const KernelSpec& spec = kernel.description.spec;
    return std::tuple(spec.target.name(), spec.format.n, spec.format.k, spec.format.bits, spec.format.group,
                      spec.m, std::string_view(kernel.key.hex()));
  };
  return order(one) < order(other);
}

/// Whether a service could make this directory, or has made it.
bool can_exist(fs::path directory) {
  std::error_code failed;
  if (fs::exists(directory, failed)) return true;
  while (directory.has_relative_path() && !fs::exists(directory, failed)) directory = directory.parent_path();
  return access(directory.c_str(), W_OK | X_OK) == 0;
}

}  // namespace

Result<std::unique_ptr<cache::DiskStore>> open_own_directory(const cache::Places& places,
                                                             cache::Access access) {
  Error reason{ErrorCode::not_found, "there is no cache directory; set LUTSMITH_CACHE_DIR", {}};
  for (const fs::path& directory : places.own) {
    // One that is missing can be read, but is not where a service that cannot make it keeps its kernels.
    const bool last = directory == places.own.back();
    if (access == cache::Access::read_only && !last && !can_exist(directory)) continue;
    auto store = cache::DiskStore::open(directory, {.access = access, .limits = places.limits});
    if (store) return store;
    reason = std::move(store.error());
    if (!reason.message.contains("LUTSMITH_CACHE_DIR")) {
      reason.context = "LUTSMITH_CACHE_DIR names the directory to use";
    }
  }
  return std::unexpected(std::move(reason));
}

Result<OpenedCache> open_cache(cache::Access access) {
  OpenedCache opened{.places = cache::places(cache::PlacesEnvironment::of_process()), .store = nullptr};
  if (!opened.places.complaints.empty()) {
    return std::unexpected(Error{ErrorCode::invalid_argument, opened.places.complaints.front(), {}});
  }
  auto store = open_own_directory(opened.places, access);
  if (!store) return std::unexpected(std::move(store.error()));
  opened.store = *std::move(store);
  return opened;
}

std::vector<SystemDirectory> open_system_directories(const cache::Places& places) {
  std::vector<SystemDirectory> directories;
  for (const fs::path& path : places.system) {
    std::error_code failed;
    if (fs::exists(path, failed)) {
      directories.push_back({path, cache::DiskStore::open(path, {.access = cache::Access::read_only})});
    } else {
      directories.push_back(
          {path, std::unexpected(Error{
                     ErrorCode::not_found, fmt::format("there is no directory {}", path.native()), {}})});
    }
  }
  return directories;
}

Result<std::string> shown_url(const RemoteCache& server) {
  const auto client = cache::HttpClient::open(server);
  if (!client) return std::unexpected(client.error());
  return (*client)->shown_url();
}

std::string limits_text(const CacheLimits& limits) {
  return fmt::format("at most {} and {}", byte_count(limits.bytes), counted(limits.entries, "kernel"));
}

Result<Description> read_kernel(cache::DiskStore& store, const cache::Key& key, cache::Entry& entry) {
  Result<cache::Lookup> lookup = store.get(key);
  if (!lookup) return std::unexpected(std::move(lookup.error()));
  std::error_code failed;
  switch (lookup->state) {
    case cache::LookupState::miss:
      // What an older version wrote is as good as nothing to a service; here its file counts.
      if (fs::exists(store.path_of(key), failed)) {
        return std::unexpected(
            Error{ErrorCode::unsupported, fmt::format("{} is of an older version", key.hex()), {}});
      }
      return std::unexpected(Error{ErrorCode::not_found, fmt::format("no kernel {}", key.hex()), {}});
    case cache::LookupState::damaged:
      return std::unexpected(Error{ErrorCode::corrupt_data, std::move(lookup->note), {}});
    case cache::LookupState::newer:
      return std::unexpected(Error{ErrorCode::unsupported, std::move(lookup->note), {}});
    case cache::LookupState::hit:
      break;
  }
  entry = std::move(lookup->entry);
  Result<Description> description = read_description(entry.manifest);
  if (description && description->key != key.hex()) {
    return std::unexpected(
        Error{ErrorCode::corrupt_data, fmt::format("the entry of {} belongs to another key", key.hex()), {}});
  }
  return description;
}

Result<CacheListing> list_kernels(cache::DiskStore& store, const std::vector<Target>& targets) {
  CacheListing listing;
  const Result<void> scanned = store.scan([&](const cache::StoredEntry& found) {
    cache::Entry entry;
    Result<Description> description = read_kernel(store, found.key, entry);
    if (!description) {
      const ErrorCode code = description.error().code;
      if (code == ErrorCode::unsupported) listing.other_version.push_back(found);
      if (code != ErrorCode::unsupported && code != ErrorCode::not_found) listing.damaged.push_back(found);
    } else if (targets.empty() || std::ranges::find(targets, description->spec.target) != targets.end()) {
      listing.kernels.push_back({.key = found.key,
                                 .bytes = found.bytes,
                                 .last_used = found.last_used,
                                 .description = *std::move(description)});
    }
    return true;
  });
  if (!scanned) return std::unexpected(scanned.error());
  std::ranges::sort(listing.kernels, listed_before);
  return listing;
}

Result<std::vector<cache::Key>> find_keys(cache::DiskStore& store, const std::string& digits) {
  constexpr std::size_t kFewestDigits = 4;
  const bool hexadecimal =
      std::ranges::all_of(digits, [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
  if (digits.size() < kFewestDigits || digits.size() > cache::Key::kDigits || !hexadecimal) {
    return std::unexpected(
        Error{ErrorCode::invalid_argument,
              fmt::format("key: '{}' is not allowed; allowed: the first 4 to 64 digits of a key, 0-9 and a-f",
                          digits),
              {}});
  }
  std::vector<cache::Key> keys;
  const Result<void> scanned = store.scan([&](const cache::StoredEntry& entry) {
    if (entry.key.hex().starts_with(digits)) keys.push_back(entry.key);
    return true;
  });
  if (!scanned) return std::unexpected(scanned.error());
  if (!keys.empty()) return keys;
  return std::unexpected(
      Error{ErrorCode::not_found,
            fmt::format("no kernel in {} has a key that begins with {}; see `lutsmith cache ls`",
                        store.root().native(), digits),
            {}});
}

std::string time_text(std::chrono::system_clock::time_point time) {
  return fmt::format("{:%Y-%m-%d %H:%M}", fmt::localtime(std::chrono::system_clock::to_time_t(time)));
}

std::string time_json(std::chrono::system_clock::time_point time) {
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::chrono::system_clock::to_time_t(time)));
}

}  // namespace lutsmith::cli
