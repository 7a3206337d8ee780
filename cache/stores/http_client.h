#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "lutsmith/cache.h"
#include "lutsmith/error.h"

namespace lutsmith::cache {

/// What a server answered.
struct HttpAnswer {
  long status = 0;              ///< 200, 404, ...
  std::vector<std::byte> body;  ///< of a GET
};

/// Calls of one HTTP server by libcurl, which is opened at run time. Connections are kept and used again.
/// Follows no redirect: it could carry a token to somebody else. Thread-safe; a forked copy opens connections
/// of its own.
///
/// Errors of the calls: io_error where no answer came, or not in time; corrupt_data where the body is longer
/// than allowed. No message holds the token, or the password of a URL.
class HttpClient {
 public:
  /// `server.url` is what paths are added to. Errors: not_found where there is no libcurl or one of the files
  /// named, invalid_argument where the URL is none of http or https.
  static Result<std::unique_ptr<HttpClient>> open(const RemoteCache& server);
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;
  ~HttpClient();

  Result<HttpAnswer> get(const std::string& path, std::size_t most_bytes);
  Result<HttpAnswer> head(const std::string& path);
  Result<HttpAnswer> put(const std::string& path, std::span<const std::byte> body);

  /// Calls under way, and all later ones, end soon with an error.
  void cancel();

  /// The URL without user and password, for messages.
  const std::string& shown_url() const;

 private:
  struct State;
  explicit HttpClient(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace lutsmith::cache
