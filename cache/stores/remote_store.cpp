#include "cache/stores/remote_store.h"

#include <fmt/format.h>

#include <utility>

namespace lutsmith::cache {
namespace {

std::string path_of(const Key& key) { return "/ac/" + key.hex(); }

bool is_success(long status) { return status >= 200 && status < 300; }

/// What to do about a status that should not have come.
const char* advice(long status) {
  if (status == 401 || status == 403) return "; check the token or the client certificate";
  if (status >= 300 && status < 400) return "; name the server that it redirects to";
  if (status == 400) return "; bazel-remote has to run with --disable_http_ac_validation";
  if (status == 405) return "; a server that takes no PUT has to be read only";
  return "";
}

}  // namespace

Result<std::unique_ptr<RemoteStore>> RemoteStore::open(const RemoteCache& server,
                                                       CircuitBreaker::Clock clock) {
  Result<std::unique_ptr<HttpClient>> client = HttpClient::open(server);
  if (!client) return std::unexpected(std::move(client.error()));
  return std::unique_ptr<RemoteStore>(
      new RemoteStore(*std::move(client), server.read_only, std::move(clock)));
}

Result<Lookup> RemoteStore::get(const Key& key) {
  CircuitBreaker::Call call(reading_);
  if (!call) {
    ++skipped_;
    return Lookup{};
  }
  Result<HttpAnswer> answer = client_->get(path_of(key), kMaxEntryBytes);
  if (!answer) {
    // Who does not answer does not take anything either: that wait is spared too.
    if (CircuitBreaker::Call other(writing_); other) other.no_answer();
    return std::unexpected(no_answer(std::move(answer.error()), call));
  }
  if (answer->status == 404) {
    call.good();
    return Lookup{};
  }
  if (answer->status != 200) return std::unexpected(bad_answer(answer->status, "asked for an entry", call));
  received_ += answer->body.size();
  return read_entry(key, answer->body, call);
}

Result<Lookup> RemoteStore::read_entry(const Key& key, std::span<const std::byte> body,
                                       CircuitBreaker::Call& call) {
  Lookup lookup;
  lookup.tier = Tier::remote;
  Result<Entry> entry = decode(body);
  if (entry || entry.error().code == ErrorCode::unsupported || entry.error().code == ErrorCode::not_found) {
    call.good();
  }
  if (entry) {
    lookup.state = LookupState::hit;
    lookup.entry = *std::move(entry);
    return lookup;
  }
  if (entry.error().code == ErrorCode::unsupported) {
    lookup.state = LookupState::newer;
    lookup.note = std::move(entry.error().message);
    return lookup;
  }
  {
    const std::lock_guard lock(mutex_);
    to_replace_.insert(key);
  }
  if (entry.error().code == ErrorCode::not_found) return lookup;  // an older version's
  call.bad_answer();
  ++failures_;
  lookup.state = LookupState::damaged;
  lookup.note = fmt::format("the entry {} of the remote cache {} is damaged: {}", key.hex(),
                            client_->shown_url(), entry.error().message);
  return lookup;
}

Result<void> RemoteStore::put(const Key& key, const Entry& entry) {
  if (read_only_) return {};
  const Result<std::vector<std::byte>> bytes = encode(entry);
  if (!bytes) return std::unexpected(bytes.error());
  CircuitBreaker::Call call(writing_);
  if (!call) return std::unexpected(left_alone());
  if (!must_replace(key)) {
    Result<HttpAnswer> present = client_->head(path_of(key));
    if (!present) return std::unexpected(no_answer(std::move(present.error()), call));
    if (present->status != 404 && !is_success(present->status)) {
      return std::unexpected(bad_answer(present->status, "asked whether it has an entry", call));
    }
    if (present->status != 404) {
      call.good();
      return {};
    }
  }
  Result<HttpAnswer> answer = client_->put(path_of(key), *bytes);
  if (!answer) return std::unexpected(no_answer(std::move(answer.error()), call));
  if (!is_success(answer->status)) return std::unexpected(bad_answer(answer->status, "given an entry", call));
  call.good();
  sent_ += bytes->size();
  const std::lock_guard lock(mutex_);
  to_replace_.erase(key);
  return {};
}

Error RemoteStore::left_alone() {
  ++skipped_;
  return {ErrorCode::io_error,
          fmt::format("the remote cache {} is left alone for a while after failures", client_->shown_url()),
          ""};
}

Error RemoteStore::no_answer(Error error, CircuitBreaker::Call& call) {
  ++failures_;
  // One that sends without end does answer, in its way.
  if (error.code == ErrorCode::corrupt_data) {
    call.bad_answer();
  } else {
    call.no_answer();
  }
  return error;
}

Error RemoteStore::bad_answer(long status, const char* what, CircuitBreaker::Call& call) {
  ++failures_;
  call.bad_answer();
  return {ErrorCode::io_error,
          fmt::format("the remote cache {}, {}, answered with HTTP status {}{}", client_->shown_url(), what,
                      status, advice(status)),
          ""};
}

bool RemoteStore::must_replace(const Key& key) {
  const std::lock_guard lock(mutex_);
  return to_replace_.contains(key);
}

Result<bool> RemoteStore::remove(const Key& key) {
  const std::lock_guard lock(mutex_);
  to_replace_.insert(key);
  return false;
}

Result<void> RemoteStore::scan(const std::function<bool(const StoredEntry&)>& /*visit*/) { return {}; }

StoreStatistics RemoteStore::statistics() const {
  return {.remote_bytes_received = received_,
          .remote_bytes_sent = sent_,
          .remote_failures = failures_,
          .remote_skipped = skipped_};
}

}  // namespace lutsmith::cache
