#pragma once

#include <array>
#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string_view>
#include <vector>

#include "cache/stores/background.h"
#include "cache/stores/store.h"

namespace lutsmith::cache {

/// Stores as one, the nearest first:
///
///            get: first hit wins           put
///     local    the user's directory     <- at once         <- a hit of the server is kept here
///     system   directories only read
///     remote   a server                 <- in the background
///
/// A tier that fails costs its entries and one warning, no more: the next tier is asked, and in the end
/// whoever asks makes the entry. So get and put give no errors.
class TieredStore final : public Store {
 public:
  struct Tiers {
    std::unique_ptr<Store> local;                ///< may be null
    std::vector<std::unique_ptr<Store>> system;  ///< in the order they are asked
    std::shared_ptr<Store> remote;               ///< may be null; others may ask it, too
  };
  using Warn = std::function<void(std::string_view)>;

  /// `warn` may be empty; called from any thread.
  TieredStore(Tiers tiers, Warn warn);
  /// Waits a few seconds for uploads, then gives them up.
  ~TieredStore() override;

  /// A hit; else damaged or newer where a tier says so; else a miss.
  Result<Lookup> get(const Key& key) override;
  Result<Lookup> get_usable(const Key& key, Reach reach, const Judge& judge) override;
  Result<void> put(const Key& key, const Entry& entry) override;
  /// Removes it from the user's directory. Lower tiers are others' too and keep what they have; from now on
  /// it is not taken from them.
  Result<bool> remove(const Key& key) override;
  /// Entries of the user's directory.
  Result<void> scan(const std::function<bool(const StoredEntry&)>& visit) override;
  bool flush(std::chrono::milliseconds longest) override;
  StoreStatistics statistics() const override;
  std::unique_ptr<Claim> claim(const Key& key, std::chrono::milliseconds longest) override;

 private:
  Lookup ask(Store& tier, std::atomic<bool>& warned, const Key& key);
  Lookup ask_local(const Key& key, const Judge& judge);
  Lookup ask_further(Store& tier, std::atomic<bool>& warned, Tier kind, const Key& key, const Judge& judge);
  Lookup look_up(const Key& key, Reach reach, const Judge& judge);
  void keep(const Key& key, const Entry& entry);
  void upload(const Key& key, const Entry& entry);
  void warn_once(std::atomic<bool>& warned, std::string_view message, std::string_view consequence);
  void bar(const Key& key, Tier tier);
  bool is_barred(const Key& key, Tier tier);

  Tiers tiers_;
  Warn warn_;
  std::atomic<bool> warned_local_{false};
  std::atomic<bool> warned_system_{false};
  std::atomic<bool> warned_remote_{false};

  std::mutex barred_mutex_;
  std::array<std::set<Key>, 3> barred_;  ///< by tier: not to be taken from there

  std::array<std::atomic<std::uint64_t>, 3> hits_{};  // by tier
  std::atomic<std::uint64_t> misses_{0};
  std::atomic<std::uint64_t> damaged_{0};
  std::atomic<std::uint64_t> uploads_dropped_{0};  ///< too many were waiting
  std::atomic<std::uint64_t> uploads_lost_{0};     ///< those, and all that the server did not take

  BackgroundWorker uploads_;  // the last member: its thread uses the others
};

}  // namespace lutsmith::cache
