#include "service/open_store.h"

#include <fmt/format.h>

#include <string>
#include <utility>

#include "cache/places.h"
#include "cache/stores/disk_store.h"
#include "cache/stores/remote_store.h"
#include "cache/stores/tiered_store.h"

namespace lutsmith {
namespace {

/// The options where they say something, else the environment.
cache::Places chosen_places(const ServiceOptions& options) {
  cache::Places places = cache::places(cache::PlacesEnvironment::of_process());
  if (!options.cache_directory.empty()) places.own = {options.cache_directory};
  if (options.system_directories) places.system = *options.system_directories;
  if (options.cache_limits) places.limits = *options.cache_limits;
  if (options.remote_cache) places.remote = *options.remote_cache;
  return places;
}

/// The first directory that can be used.
std::unique_ptr<cache::DiskStore> open_own(const cache::Places& places,
                                           const cache::TieredStore::Warn& warn) {
  std::string reasons;
  for (const std::filesystem::path& directory : places.own) {
    Result<std::unique_ptr<cache::DiskStore>> store =
        cache::DiskStore::open(directory, {.limits = places.limits});
    if (store) {
      if (!reasons.empty()) warn(fmt::format("kernels are kept in {}: {}", directory.native(), reasons));
      return *std::move(store);
    }
    reasons += (reasons.empty() ? "" : "; ") + store.error().message;
  }
  warn(fmt::format("kernels are kept in memory only: {}",
                   reasons.empty() ? "the cache directory has no usable name" : reasons));
  return nullptr;
}

}  // namespace

OpenedStore open_store(const ServiceOptions& options) {
  OpenedStore opened;
  if (options.memory_only) return opened;
  const LogCallback log = options.log;
  const cache::TieredStore::Warn warn = [log](std::string_view text) {
    if (log) log(LogLevel::warning, text);
  };
  const cache::Places places = chosen_places(options);
  for (const std::string& complaint : places.complaints) warn(complaint);

  cache::TieredStore::Tiers tiers;
  if (std::unique_ptr<cache::DiskStore> own = open_own(places, warn)) {
    opened.directory = own->root();
    tiers.local = std::move(own);
  }
  for (const std::filesystem::path& directory : places.system) {
    auto store = cache::DiskStore::open(directory, {.access = cache::Access::read_only});
    if (store) {
      opened.system_directories.push_back((*store)->root());
      tiers.system.push_back(*std::move(store));
    } else {
      warn(fmt::format("kernels are not looked for in {}: {}", directory.native(), store.error().message));
    }
  }
  if (!places.remote.url.empty()) {
    auto store = cache::RemoteStore::open(places.remote);
    if (store) {
      opened.remote = *std::move(store);
      tiers.remote = opened.remote;
    } else {
      warn(fmt::format("kernels are not shared: {}", store.error().message));
    }
  }
  if (tiers.local != nullptr || !tiers.system.empty() || tiers.remote != nullptr) {
    opened.store = std::make_unique<cache::TieredStore>(std::move(tiers), warn);
  }
  return opened;
}

}  // namespace lutsmith
