#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
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

/// Where an entry was found.
enum class Tier {
  local,   ///< memory or the user's own directory
  system,  ///< a directory that is only read
  remote,  ///< a server
};

struct Lookup {
  LookupState state = LookupState::miss;
  Entry entry;              ///< of a hit
  std::string note;         ///< what was wrong, where `state` is damaged or newer
  Tier tier = Tier::local;  ///< of what was found, good or damaged
};

/// What whoever asks for an entry says of an intact one.
enum class Verdict {
  usable,
  unusable,  ///< it does not hold what it should; to be made anew
  newer,     ///< written by a newer version: as good as none, but others may need it
};
using Judge = std::function<Verdict(const Entry&)>;

/// How far a look-up goes.
enum class Reach {
  everywhere,
  local,  ///< no further than memory or the user's own directory, where another process of this host would
          ///< have put it
};

/// One entry as `scan` meets it.
struct StoredEntry {
  Key key;
  std::uint64_t bytes = 0;
  std::chrono::system_clock::time_point last_used = {};
};

/// What a store did since it was opened.
struct StoreStatistics {
  std::uint64_t local_hits = 0;
  std::uint64_t system_hits = 0;
  std::uint64_t remote_hits = 0;
  std::uint64_t misses = 0;
  std::uint64_t damaged = 0;          ///< entries that were no entries
  std::uint64_t entries_removed = 0;  ///< to keep a directory's limits
  std::uint64_t bytes_read = 0;       ///< from directories
  std::uint64_t bytes_written = 0;
  std::uint64_t remote_bytes_received = 0;
  std::uint64_t remote_bytes_sent = 0;
  std::uint64_t remote_failures = 0;
  std::uint64_t remote_skipped = 0;  ///< calls left out while the server was not trusted to answer
};

/// Held by the one process that makes an entry; given up when destroyed.
class Claim {
 public:
  Claim() = default;
  Claim(const Claim&) = delete;
  Claim& operator=(const Claim&) = delete;
  virtual ~Claim() = default;
};

/// Where entries are kept. Entries never change: they are put whole, replaced whole and removed.
/// Thread-safe. Every fault is an error or a miss, never a wrong entry; the caller can always go on
/// without. Further tiers (over a network) and wrappers (limits, statistics) implement the same calls.
class Store {
 public:
  Store() = default;
  Store(const Store&) = delete;
  Store& operator=(const Store&) = delete;
  virtual ~Store() = default;

  virtual Result<Lookup> get(const Key& key) = 0;
  /// The same, where an intact entry counts only if `judge` finds it usable: one that it does not is not
  /// found again (what others may use is not deleted; on a server the next `put` replaces it), and further
  /// tiers are asked. `judge` is called for each that is met, by this thread; what it took last is the one
  /// returned.
  virtual Result<Lookup> get_usable(const Key& key, Reach reach, const Judge& judge);
  /// Replaces what is there. On error nothing of the new entry is left, and the old one is intact.
  virtual Result<void> put(const Key& key, const Entry& entry) = 0;
  /// Whether there was something to remove.
  virtual Result<bool> remove(const Key& key) = 0;
  /// Visits entries in no order until `visit` returns false; does not open them. What is no entry is
  /// passed over.
  virtual Result<void> scan(const std::function<bool(const StoredEntry&)>& visit) = 0;

  /// Waits until nothing is under way in the background any more, but no longer than `longest`. Whether all
  /// that was put since the store was opened has arrived on the server, where there is one that takes it.
  virtual bool flush(std::chrono::milliseconds /*longest*/) { return true; }

  /// Makes what other threads wait for in this store end soon, with an error.
  virtual void cancel() {}

  virtual StoreStatistics statistics() const { return {}; }

  /// Asks to be the only one on this host that makes the entry of `key`, and waits while another is, but no
  /// longer than `longest`. Null where that was too long, or where there are no locks: they spare work, and
  /// everything is right without them. Whoever gets the claim looks for the entry again before making it.
  virtual std::unique_ptr<Claim> claim(const Key& /*key*/, std::chrono::milliseconds /*longest*/) {
    return nullptr;
  }
};

}  // namespace lutsmith::cache
