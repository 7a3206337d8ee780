#include "cache/stores/memory_store.h"

#include <vector>

namespace lutsmith::cache {

Result<Lookup> MemoryStore::get(const Key& key) {
  const std::lock_guard lock(mutex_);
  const auto found = entries_.find(key);
  if (found == entries_.end()) return Lookup{};
  return Lookup{.state = LookupState::hit, .entry = found->second, .note = {}};
}

Result<void> MemoryStore::put(const Key& key, const Entry& entry) {
  const std::lock_guard lock(mutex_);
  entries_.insert_or_assign(key, entry);
  return {};
}

Result<bool> MemoryStore::remove(const Key& key) {
  const std::lock_guard lock(mutex_);
  return entries_.erase(key) > 0;
}

Result<void> MemoryStore::scan(const std::function<bool(const StoredEntry&)>& visit) {
  std::vector<StoredEntry> found;  // visited without the lock: a visitor may remove
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [key, entry] : entries_) {
      found.push_back({key, kEntryOverheadBytes + entry.manifest.size() + entry.payload.size()});
    }
  }
  for (const StoredEntry& entry : found) {
    if (!visit(entry)) break;
  }
  return {};
}

}  // namespace lutsmith::cache
