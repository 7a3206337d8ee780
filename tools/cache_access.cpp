#include "cache_access.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>

namespace lutsmith::tools {

Result<OpenedCache> open_cache(cache::Access access) {
  OpenedCache opened{.places = cache::places(cache::PlacesEnvironment::of_process()), .store = nullptr};
  if (!opened.places.complaints.empty()) {
    return std::unexpected(Error{ErrorCode::invalid_argument, opened.places.complaints.front(), {}});
  }
  Error reason{ErrorCode::not_found, "there is no cache directory; set LUTSMITH_CACHE_DIR", {}};
  for (const std::filesystem::path& directory : opened.places.own) {
    auto store = cache::DiskStore::open(directory, {.access = access, .limits = opened.places.limits});
    if (store) {
      opened.store = *std::move(store);
      return opened;
    }
    reason = std::move(store.error());
  }
  return std::unexpected(std::move(reason));
}

Result<Description> read_kernel(cache::Store& store, const cache::Key& key, cache::Entry& entry) {
  Result<cache::Lookup> lookup = store.get(key);
  if (!lookup) return std::unexpected(std::move(lookup.error()));
  switch (lookup->state) {
    case cache::LookupState::miss:
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
      if (description.error().code != ErrorCode::not_found) listing.unreadable.push_back(found);
    } else if (targets.empty() || std::ranges::find(targets, description->spec.target) != targets.end()) {
      listing.kernels.push_back({.key = found.key,
                                 .bytes = found.bytes,
                                 .last_used = found.last_used,
                                 .description = *std::move(description)});
    }
    return true;
  });
  if (!scanned) return std::unexpected(scanned.error());
  std::ranges::sort(listing.kernels, std::ranges::greater(), &CachedKernel::last_used);
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

}  // namespace lutsmith::tools
