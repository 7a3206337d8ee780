#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "lutsmith/cache.h"
#include "temporary_directory.h"

// Servers on the loopback address for tests of the remote cache. Each takes a free port.

namespace lutsmith {

struct HttpRequest {
  std::string method;
  std::string path;
  std::string authorization;
  std::string body;
};

struct HttpReply {
  int status = 200;
  std::string body = {};
  std::string location = {};  ///< header of a redirect
};

/// Answers HTTP as the test says, by cpp-httplib.
class FaultServer {
 public:
  using Answer = std::function<HttpReply(const HttpRequest&)>;
  explicit FaultServer(Answer answer);
  FaultServer(const FaultServer&) = delete;
  FaultServer& operator=(const FaultServer&) = delete;
  ~FaultServer();

  std::string url() const;
  /// All that came so far.
  std::vector<HttpRequest> requests() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Hands every connection to the test, for what no HTTP library would do.
class RawServer {
 public:
  /// `serve(socket)` runs for one connection at a time; the socket is closed after it. With null, connections
  /// are accepted and nothing else ever happens.
  explicit RawServer(std::function<void(int socket)> serve);
  RawServer(const RawServer&) = delete;
  RawServer& operator=(const RawServer&) = delete;
  ~RawServer();

  std::string url() const;
  int connections() const { return connections_; }

 private:
  void accept_all();

  std::function<void(int)> serve_;
  int listener_ = -1;
  std::uint16_t port_ = 0;
  std::atomic<int> connections_{0};
  std::vector<int> held_;
  std::thread thread_;
};

/// Reads the head of an HTTP request off a socket.
void read_head(int socket);
/// Writes it all; false where the other side has gone.
bool write_all(int socket, const std::string& text);

/// A server to be asked by a test that is to succeed. A busy machine may stop a test for longer than a
/// service waits for a connection.
RemoteCache patient(const std::string& url);

/// A port that nobody listens on.
std::uint16_t free_port();

/// nginx with WebDAV over a folder of its own.
class NginxServer {
 public:
  /// Whether nginx is installed.
  static bool installed();

  struct Tls {
    std::filesystem::path certificate;
    std::filesystem::path key;
    std::filesystem::path client_authority;  ///< clients need a certificate of it
  };
  explicit NginxServer(const Tls* tls = nullptr);
  NginxServer(const NginxServer&) = delete;
  NginxServer& operator=(const NginxServer&) = delete;
  ~NginxServer();

  std::string url() const;
  /// Where the entry of a key stands.
  std::filesystem::path file(const std::string& key) const { return directory_.path() / "data" / "ac" / key; }

 private:
  TemporaryDirectory directory_;
  std::uint16_t port_ = 0;
  bool tls_ = false;
  pid_t process_ = -1;
};

}  // namespace lutsmith
