#pragma once

#include <map>
#include <mutex>

#include "cache/stores/store.h"

namespace lutsmith::cache {

/// Entries for the life of the process.
class MemoryStore final : public Store {
 public:
  Result<Lookup> get(const Key& key) override;
  Result<void> put(const Key& key, const Entry& entry) override;
  Result<bool> remove(const Key& key) override;
  Result<void> scan(const std::function<bool(const StoredEntry&)>& visit) override;

 private:
  std::mutex mutex_;
  std::map<Key, Entry> entries_;
};

}  // namespace lutsmith::cache
