#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <set>
#include <span>
#include <vector>

#include "cache/stores/circuit_breaker.h"
#include "cache/stores/http_client.h"
#include "cache/stores/store.h"
#include "lutsmith/cache.h"

namespace lutsmith::cache {

/// Entries on an HTTP server, in the layout of bazel-remote: `<url>/ac/<key>` holds the entry of a key as
/// entry.h encodes it. (An action cache that checks what it keeps refuses ours: bazel-remote has to run with
/// --disable_http_ac_validation.) The server is not trusted to answer, to be quick or to be right: see
/// circuit_breaker.h; every entry's digest is checked.
class RemoteStore final : public Store {
 public:
  /// Makes no call. Errors: see HttpClient::open.
  static Result<std::unique_ptr<RemoteStore>> open(
      const RemoteCache& server, CircuitBreaker::Clock clock = std::chrono::steady_clock::now);

  /// A miss where the server is being left alone. Error: io_error where it does not answer, or with neither
  /// an entry nor "there is none".
  Result<Lookup> get(const Key& key) override;
  /// Sends the entry unless the server has one under this key. Does nothing where the server is only read.
  /// Error: io_error where it does not take it, or is being left alone.
  Result<void> put(const Key& key, const Entry& entry) override;
  /// Deletes nothing: others may use it. The next `put` replaces what is there. False.
  Result<bool> remove(const Key& key) override;
  /// Such a server does not tell what it has: visits nothing.
  Result<void> scan(const std::function<bool(const StoredEntry&)>& visit) override;
  void cancel() override { client_->cancel(); }
  StoreStatistics statistics() const override;

 private:
  RemoteStore(std::unique_ptr<HttpClient> client, bool read_only, CircuitBreaker::Clock clock)
      : client_(std::move(client)), read_only_(read_only), reading_(clock), writing_(std::move(clock)) {}

  Result<Lookup> read_entry(const Key& key, std::span<const std::byte> body, CircuitBreaker::Call& call);
  Error left_alone();
  Error no_answer(Error error, CircuitBreaker::Call& call);
  Error bad_answer(long status, const char* what, CircuitBreaker::Call& call);
  bool must_replace(const Key& key);

  std::unique_ptr<HttpClient> client_;
  bool read_only_;
  // Apart, since a server may answer well and take nothing, or take long.
  CircuitBreaker reading_;
  CircuitBreaker writing_;

  std::mutex mutex_;
  std::set<Key> to_replace_;  ///< the server's entry is no good

  std::atomic<std::uint64_t> received_{0};
  std::atomic<std::uint64_t> sent_{0};
  std::atomic<std::uint64_t> failures_{0};
  std::atomic<std::uint64_t> skipped_{0};
};

}  // namespace lutsmith::cache
