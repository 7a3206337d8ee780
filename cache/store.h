#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "cache/entry.h"
#include "cache/key.h"
#include "lutsmith/error.h"

namespace lutsmith::cache {

enum class LookupState {
  hit,
  miss,
  damaged,  ///< something was there, was no entry, and has been put aside; to be written anew
  newer,    ///< written by a newer version: as good as a miss, but not to be overwritten
};

struct Lookup {
  LookupState state = LookupState::miss;
  Entry entry;       ///< of a hit
  std::string note;  ///< what was wrong, where `state` is damaged or newer
};

/// One entry as `scan` meets it.
struct StoredEntry {
  Key key;
  std::uint64_t bytes = 0;
};

/// Where entries are kept. Entries never change: they are put whole, replaced whole and removed.
/// Thread-safe. Every fault is an error or a miss, never a wrong entry; the caller can always go on
/// without. Further tiers (over a network) and wrappers (locks between processes, limits, statistics)
/// implement the same four calls.
class Store {
 public:
  Store() = default;
  Store(const Store&) = delete;
  Store& operator=(const Store&) = delete;
  virtual ~Store() = default;

  virtual Result<Lookup> get(const Key& key) = 0;
  /// Replaces what is there. On error nothing of the new entry is left, and the old one is intact.
  virtual Result<void> put(const Key& key, const Entry& entry) = 0;
  /// Whether there was something to remove.
  virtual Result<bool> remove(const Key& key) = 0;
  /// Visits entries in no order until `visit` returns false; does not open them. What is no entry is
  /// passed over.
  virtual Result<void> scan(const std::function<bool(const StoredEntry&)>& visit) = 0;
};

}  // namespace lutsmith::cache
