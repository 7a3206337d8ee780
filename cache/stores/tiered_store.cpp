#include "cache/stores/tiered_store.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <utility>

namespace lutsmith::cache {
namespace {

// An entry is about 20 KB, so that waiting uploads take tens of megabytes.
constexpr std::size_t kMostUploadsWaiting = 1024;
// A program that ends right after a compile should still share it; one that ends must end.
constexpr std::chrono::seconds kLastUploads{3};
// Longer times would overflow when they are added to a clock.
constexpr std::chrono::hours kLongestFlush{24};

}  // namespace

TieredStore::TieredStore(Tiers tiers, Warn warn)
    : tiers_(std::move(tiers)), warn_(std::move(warn)), uploads_(kMostUploadsWaiting) {}

TieredStore::~TieredStore() {
  if (tiers_.remote == nullptr) return;
  uploads_.flush(kLastUploads);
  tiers_.remote->cancel();
}

Result<Lookup> TieredStore::get(const Key& key) {
  return get_usable(key, Reach::everywhere, [](const Entry&) { return Verdict::usable; });
}

Result<Lookup> TieredStore::get_usable(const Key& key, Reach reach, const Judge& judge) {
  Lookup answer = look_up(key, reach, judge);
  if (answer.state == LookupState::hit) {
    ++hits_[static_cast<std::size_t>(answer.tier)];
  } else if (reach == Reach::everywhere) {
    ++misses_;
  }
  return answer;
}

/// A further tier is asked only where the nearer ones have no entry that can be used.
Lookup TieredStore::look_up(const Key& key, Reach reach, const Judge& judge) {
  Lookup answer = ask_local(key, judge);
  if (answer.state == LookupState::hit || reach == Reach::local) return answer;
  const bool may_keep = answer.state != LookupState::newer;
  // What is no hit counts only as news of damage. That a newer version wrote there does not keep this version
  // from using its own directory.
  const auto is_hit = [&answer](Lookup found) {
    if (found.state == LookupState::hit ||
        (found.state == LookupState::damaged && answer.state == LookupState::miss)) {
      answer = std::move(found);
    }
    return answer.state == LookupState::hit;
  };
  if (!is_barred(key, Tier::system)) {
    for (const std::unique_ptr<Store>& tier : tiers_.system) {
      if (is_hit(ask_further(*tier, warned_system_, Tier::system, key, judge))) return answer;
    }
  }
  if (tiers_.remote != nullptr && !is_barred(key, Tier::remote) &&
      is_hit(ask_further(*tiers_.remote, warned_remote_, Tier::remote, key, judge)) && may_keep) {
    keep(key, answer.entry);
  }
  return answer;
}

Lookup TieredStore::ask_local(const Key& key, const Judge& judge) {
  if (tiers_.local == nullptr) return {};
  Result<Lookup> judged = tiers_.local->get_usable(key, Reach::everywhere, judge);
  if (!judged) {
    warn_once(warned_local_, judged.error().message, "kernels are looked for elsewhere");
    return {};
  }
  if (judged->state == LookupState::damaged) ++damaged_;
  return *std::move(judged);
}

Lookup TieredStore::ask_further(Store& tier, std::atomic<bool>& warned, Tier kind, const Key& key,
                                const Judge& judge) {
  Lookup found = ask(tier, warned, key);
  if (found.state == LookupState::damaged) {
    ++damaged_;
    if (kind == Tier::remote) bar(key, kind);  // it would only be sent again
  }
  if (found.state == LookupState::hit && judge(found.entry) != Verdict::usable) {
    bar(key, kind);
    return {};
  }
  return found;
}

Lookup TieredStore::ask(Store& tier, std::atomic<bool>& warned, const Key& key) {
  Result<Lookup> lookup = tier.get(key);
  if (lookup) return *std::move(lookup);
  warn_once(warned, lookup.error().message, "kernels are looked for elsewhere");
  return {};
}

Result<void> TieredStore::put(const Key& key, const Entry& entry) {
  keep(key, entry);
  upload(key, entry);
  return {};
}

void TieredStore::keep(const Key& key, const Entry& entry) {
  if (tiers_.local == nullptr) return;
  const Result<void> put = tiers_.local->put(key, entry);
  // A full or broken disk would say the same at every request.
  if (!put)
    warn_once(warned_local_, put.error().message, "kernels that cannot be kept on disk stay in memory");
}

void TieredStore::upload(const Key& key, const Entry& entry) {
  if (tiers_.remote == nullptr) return;
  const bool taken = uploads_.run([this, key, entry] {
    ++uploads_lost_;  // until it has arrived
    const Result<void> put = tiers_.remote->put(key, entry);
    if (put) {
      --uploads_lost_;
      return;
    }
    warn_once(warned_remote_, put.error().message, "kernels are not shared");
  });
  if (taken) return;
  ++uploads_dropped_;
  ++uploads_lost_;
}

Result<bool> TieredStore::remove(const Key& key) {
  bar(key, Tier::system);
  bar(key, Tier::remote);
  return tiers_.local != nullptr ? tiers_.local->remove(key) : false;
}

Result<void> TieredStore::scan(const std::function<bool(const StoredEntry&)>& visit) {
  if (tiers_.local == nullptr) return {};
  return tiers_.local->scan(visit);
}

bool TieredStore::flush(std::chrono::milliseconds longest) {
  const auto start = std::chrono::steady_clock::now();
  longest = std::min<std::chrono::milliseconds>(longest, kLongestFlush);
  const bool uploaded = uploads_.flush(longest) && uploads_lost_ == 0;
  if (tiers_.local != nullptr) {
    const auto left = start + longest - std::chrono::steady_clock::now();
    tiers_.local->flush(std::chrono::duration_cast<std::chrono::milliseconds>(left));
  }
  return uploaded;
}

StoreStatistics TieredStore::statistics() const {
  StoreStatistics all;
  const auto add = [&all](const Store& tier) {
    const StoreStatistics one = tier.statistics();
    all.entries_removed += one.entries_removed;
    all.bytes_read += one.bytes_read;
    all.bytes_written += one.bytes_written;
    all.remote_bytes_received += one.remote_bytes_received;
    all.remote_bytes_sent += one.remote_bytes_sent;
    all.remote_failures += one.remote_failures;
    all.remote_skipped += one.remote_skipped;
  };
  if (tiers_.local != nullptr) add(*tiers_.local);
  for (const std::unique_ptr<Store>& tier : tiers_.system) add(*tier);
  if (tiers_.remote != nullptr) add(*tiers_.remote);
  all.local_hits = hits_[static_cast<std::size_t>(Tier::local)];
  all.system_hits = hits_[static_cast<std::size_t>(Tier::system)];
  all.remote_hits = hits_[static_cast<std::size_t>(Tier::remote)];
  all.misses = misses_;
  all.damaged = damaged_;
  all.remote_skipped += uploads_dropped_;
  return all;
}

std::unique_ptr<Claim> TieredStore::claim(const Key& key, std::chrono::milliseconds longest) {
  return tiers_.local != nullptr ? tiers_.local->claim(key, longest) : nullptr;
}

void TieredStore::bar(const Key& key, Tier tier) {
  if (tier == Tier::local) return;
  {
    const std::lock_guard lock(barred_mutex_);
    barred_[static_cast<std::size_t>(tier)].insert(key);
  }
  // Told, so that the next put replaces what the server has.
  if (tier == Tier::remote && tiers_.remote != nullptr) static_cast<void>(tiers_.remote->remove(key));
}

bool TieredStore::is_barred(const Key& key, Tier tier) {
  const std::lock_guard lock(barred_mutex_);
  return barred_[static_cast<std::size_t>(tier)].contains(key);
}

void TieredStore::warn_once(std::atomic<bool>& warned, std::string_view message,
                            std::string_view consequence) {
  if (warned.exchange(true) || !warn_) return;
  warn_(fmt::format("{}; {}", message, consequence));
}

}  // namespace lutsmith::cache
