#include "cache/stores/http_client.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <mutex>
#include <new>
#include <string_view>
#include <system_error>
#include <utility>

#include "cache/stores/curl_api.h"
#include "core/fork_mark.h"

namespace lutsmith::cache {
namespace {

/// More connections than this are not kept for later.
constexpr std::size_t kMostKept = 16;

/// The URL without what stands before an @, which may be a user's password.
std::string without_user(const std::string& url) {
  const std::size_t begin = url.find("://");
  if (begin == std::string::npos) return url;
  const std::size_t host = begin + 3;
  const std::size_t at = url.substr(0, url.find('/', host)).rfind('@');
  return at == std::string::npos || at < host ? url : url.substr(0, host) + url.substr(at + 1);
}

Result<void> check(const RemoteCache& server) {
  const std::string shown = without_user(server.url);
  const bool http = server.url.starts_with("http://") || server.url.starts_with("https://");
  const std::size_t host = server.url.find("://") + 3;
  if (!http || host >= server.url.size() || server.url[host] == '/' ||
      server.url.find_first_of("?# \t\r\n") != std::string::npos) {
    return std::unexpected(
        Error{ErrorCode::invalid_argument,
              fmt::format("the remote cache's URL '{}' is not allowed; allowed: http://host:port/path or "
                          "https://..., without ? and #",
                          shown),
              ""});
  }
  if (server.bearer_token.find_first_of("\r\n") != std::string::npos) {
    return std::unexpected(
        Error{ErrorCode::invalid_argument, "the remote cache's token holds a line break; remove it", ""});
  }
  for (const std::filesystem::path& file :
       {server.client_certificate, server.client_key, server.certificate_authority}) {
    std::error_code failed;
    if (file.empty() || std::filesystem::is_regular_file(file, failed)) continue;
    return std::unexpected(Error{
        ErrorCode::not_found, fmt::format("the remote cache's file {} does not exist", file.native()), ""});
  }
  return {};
}

/// A body as it comes in.
struct Receiving {
  std::vector<std::byte> bytes;
  std::size_t most = 0;
  bool overflowed = false;
};

std::size_t receive(char* data, std::size_t size, std::size_t count, void* to) {
  Receiving& body = *static_cast<Receiving*>(to);
  const std::size_t bytes = size * count;
  if (bytes > body.most - body.bytes.size()) {
    body.overflowed = true;
    return 0;  // ends the transfer
  }
  const auto* begin = reinterpret_cast<const std::byte*>(data);
  try {
    body.bytes.insert(body.bytes.end(), begin, begin + bytes);
  } catch (const std::bad_alloc&) {  // not through libcurl's own functions
    return 0;
  }
  return bytes;
}

/// A body as it goes out.
struct Sending {
  explicit Sending(std::span<const std::byte> body) : all(body), rest(body) {}
  std::span<const std::byte> all;
  std::span<const std::byte> rest;
};

std::size_t send(char* to, std::size_t size, std::size_t count, void* from) {
  Sending& body = *static_cast<Sending*>(from);
  const std::size_t bytes = std::min(size * count, body.rest.size());
  std::ranges::copy(body.rest.first(bytes), reinterpret_cast<std::byte*>(to));
  body.rest = body.rest.subspan(bytes);
  return bytes;
}

/// A connection that was kept turns out to be closed: libcurl opens another and sends all of it again.
int send_again(void* from, curl_off_t offset, int origin) {
  Sending& body = *static_cast<Sending*>(from);
  if (origin != SEEK_SET || offset < 0 || static_cast<std::size_t>(offset) > body.all.size()) {
    return CURL_SEEKFUNC_FAIL;
  }
  body.rest = body.all.subspan(static_cast<std::size_t>(offset));
  return CURL_SEEKFUNC_OK;
}

int end_if_cancelled(void* cancelled, curl_off_t /*to_receive*/, curl_off_t /*received*/,
                     curl_off_t /*to_send*/, curl_off_t /*sent*/) {
  return static_cast<const std::atomic<bool>*>(cancelled)->load() ? 1 : 0;
}

}  // namespace

struct HttpClient::State {
  State(const CurlApi& its_curl, RemoteCache its_server)
      : curl(its_curl), server(std::move(its_server)), shown_url(without_user(server.url)) {
    while (server.url.ends_with('/')) server.url.pop_back();
  }
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State() {
    if (mark.copied()) return;  // the connections are the parent's
    for (CURL* handle : idle) curl.easy_cleanup(handle);
  }

  CURL* take();
  void give_back(CURL* handle);
  void set_common(CURL* handle, const std::string& path, curl_slist* headers);
  Result<HttpAnswer> perform(CURL* handle, Receiving& body);

  /// Runs one call on a handle of its own: `prepare(handle, body)` sets what is special to it.
  template <class Prepare>
  Result<HttpAnswer> call(const std::string& path, std::size_t most_bytes, Prepare&& prepare);

  const CurlApi& curl;
  RemoteCache server;
  std::string shown_url;
  std::atomic<bool> cancelled{false};
  core::ForkMark mark;
  std::mutex mutex;
  std::vector<CURL*> idle;  ///< with their connections
};

CURL* HttpClient::State::take() {
  // In a forked copy the mutex may be locked for ever, and what is idle is the parent's: a new handle each
  // time.
  if (!mark.copied()) {
    const std::lock_guard lock(mutex);
    if (!idle.empty()) {
      CURL* handle = idle.back();
      idle.pop_back();
      curl.easy_reset(handle);
      return handle;
    }
  }
  return curl.easy_init();
}

void HttpClient::State::give_back(CURL* handle) {
  if (!mark.copied()) {
    const std::lock_guard lock(mutex);
    if (idle.size() < kMostKept) {
      idle.push_back(handle);
      return;
    }
  }
  curl.easy_cleanup(handle);
}

void HttpClient::State::set_common(CURL* handle, const std::string& path, curl_slist* headers) {
  const auto set = [&](CURLoption option, auto value) { curl.easy_setopt(handle, option, value); };
  set(CURLOPT_URL, (server.url + path).c_str());
  set(CURLOPT_NOSIGNAL, 1L);
  set(CURLOPT_QUICK_EXIT, 1L);  // else a name server that is silent is waited for after the time is over
  set(CURLOPT_PROTOCOLS_STR, "http,https");
  set(CURLOPT_FOLLOWLOCATION, 0L);
  set(CURLOPT_USERAGENT, "lutsmith");
  set(CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(server.connect_timeout.count()));
  set(CURLOPT_TIMEOUT_MS, static_cast<long>(server.transfer_timeout.count()));
  set(CURLOPT_HTTPHEADER, headers);
  set(CURLOPT_NOPROGRESS, 0L);
  set(CURLOPT_XFERINFOFUNCTION, end_if_cancelled);
  set(CURLOPT_XFERINFODATA, &cancelled);
  if (!server.client_certificate.empty()) set(CURLOPT_SSLCERT, server.client_certificate.c_str());
  if (!server.client_key.empty()) set(CURLOPT_SSLKEY, server.client_key.c_str());
  if (!server.certificate_authority.empty()) set(CURLOPT_CAINFO, server.certificate_authority.c_str());
  if (!server.bearer_token.empty()) {
    set(CURLOPT_HTTPAUTH, static_cast<long>(CURLAUTH_BEARER));
    set(CURLOPT_XOAUTH2_BEARER, server.bearer_token.c_str());
  }
}

Result<HttpAnswer> HttpClient::State::perform(CURL* handle, Receiving& body) {
  const CURLcode code = curl.easy_perform(handle);
  if (body.overflowed || code == CURLE_FILESIZE_EXCEEDED) {
    return std::unexpected(
        Error{ErrorCode::corrupt_data, fmt::format("{} sent more than {} bytes", shown_url, body.most), ""});
  }
  if (code != CURLE_OK) {
    const std::string reason = cancelled ? "the cache is being closed" : curl.easy_strerror(code);
    return std::unexpected(Error{
        ErrorCode::io_error, fmt::format("the remote cache {} did not answer: {}", shown_url, reason), ""});
  }
  HttpAnswer answer;
  curl.easy_getinfo(handle, CURLINFO_RESPONSE_CODE, &answer.status);
  answer.body = std::move(body.bytes);
  return answer;
}

template <class Prepare>
Result<HttpAnswer> HttpClient::State::call(const std::string& path, std::size_t most_bytes,
                                           Prepare&& prepare) {
  CURL* handle = take();
  // An empty Expect keeps curl from waiting a second for leave to send a body.
  curl_slist* headers = curl.slist_append(nullptr, "Expect:");
  if (handle == nullptr || headers == nullptr) {
    if (handle != nullptr) give_back(handle);
    return std::unexpected(Error{ErrorCode::out_of_memory, "no memory for a call of the remote cache", ""});
  }
  Receiving body{.bytes = {}, .most = most_bytes};
  set_common(handle, path, headers);
  curl.easy_setopt(handle, CURLOPT_WRITEFUNCTION, receive);
  curl.easy_setopt(handle, CURLOPT_WRITEDATA, &body);
  curl.easy_setopt(handle, CURLOPT_MAXFILESIZE_LARGE, static_cast<curl_off_t>(most_bytes));
  prepare(handle);
  Result<HttpAnswer> answer = perform(handle, body);
  curl.easy_setopt(handle, CURLOPT_HTTPHEADER, nullptr);
  curl.slist_free_all(headers);
  give_back(handle);
  return answer;
}

HttpClient::HttpClient(std::unique_ptr<State> state) : state_(std::move(state)) {}
HttpClient::~HttpClient() = default;

Result<std::unique_ptr<HttpClient>> HttpClient::open(const RemoteCache& server) {
  if (Result<void> allowed = check(server); !allowed) return std::unexpected(allowed.error());
  Result<const CurlApi*> curl = CurlApi::open();
  if (!curl) return std::unexpected(std::move(curl.error()));
  return std::unique_ptr<HttpClient>(new HttpClient(std::make_unique<State>(**curl, server)));
}

Result<HttpAnswer> HttpClient::get(const std::string& path, std::size_t most_bytes) {
  return state_->call(path, most_bytes, [](CURL*) {});
}

// What a server says beside its status is of no use, but it must be short to be passed over.
constexpr std::size_t kMostChatter = std::size_t{1} << 20;

Result<HttpAnswer> HttpClient::head(const std::string& path) {
  // The length a HEAD tells is that of a body that does not come.
  return state_->call(path, kMostChatter, [this](CURL* handle) {
    state_->curl.easy_setopt(handle, CURLOPT_NOBODY, 1L);
    state_->curl.easy_setopt(handle, CURLOPT_MAXFILESIZE_LARGE, curl_off_t{0});
  });
}

Result<HttpAnswer> HttpClient::put(const std::string& path, std::span<const std::byte> body) {
  Sending sending(body);
  return state_->call(path, kMostChatter, [&](CURL* handle) {
    state_->curl.easy_setopt(handle, CURLOPT_UPLOAD, 1L);
    state_->curl.easy_setopt(handle, CURLOPT_READFUNCTION, send);
    state_->curl.easy_setopt(handle, CURLOPT_READDATA, &sending);
    state_->curl.easy_setopt(handle, CURLOPT_SEEKFUNCTION, send_again);
    state_->curl.easy_setopt(handle, CURLOPT_SEEKDATA, &sending);
    state_->curl.easy_setopt(handle, CURLOPT_INFILESIZE_LARGE, static_cast<curl_off_t>(body.size()));
  });
}

void HttpClient::cancel() { state_->cancelled = true; }

const std::string& HttpClient::shown_url() const { return state_->shown_url; }

}  // namespace lutsmith::cache
