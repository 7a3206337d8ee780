#include "servers.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <httplib.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <fstream>

namespace lutsmith {
namespace {

sockaddr_in loopback(std::uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

int open_socket() {
  const int number = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (number < 0) std::abort();  // no test with a server can go on
  return number;
}

int listen_on_free_port(std::uint16_t& port) {
  const int listener = open_socket();
  sockaddr_in address = loopback(0);
  socklen_t size = sizeof address;
  EXPECT_EQ(bind(listener, reinterpret_cast<sockaddr*>(&address), size), 0);
  EXPECT_EQ(getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size), 0);
  EXPECT_EQ(listen(listener, 64), 0);
  port = ntohs(address.sin_port);
  return listener;
}

bool answers(std::uint16_t port) {
  const int client = open_socket();
  sockaddr_in address = loopback(port);
  const bool connected = connect(client, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
  close(client);
  return connected;
}

std::string find_nginx() {
  for (const char* path :
       {"/usr/sbin/nginx", "/usr/local/sbin/nginx", "/usr/bin/nginx", "/usr/local/bin/nginx"}) {
    if (access(path, X_OK) == 0) return path;
  }
  return {};
}

}  // namespace

struct FaultServer::State {
  httplib::Server server;
  int port = 0;
  std::thread thread;
  mutable std::mutex mutex;
  std::vector<HttpRequest> requests;
};

FaultServer::FaultServer(Answer answer) : state_(std::make_unique<State>()) {
  const auto handle = [this, answer = std::move(answer)](const httplib::Request& request,
                                                         httplib::Response& response) {
    HttpRequest seen{.method = request.method,
                     .path = request.path,
                     .authorization = request.get_header_value("Authorization"),
                     .body = request.body};
    {
      const std::lock_guard lock(state_->mutex);
      state_->requests.push_back(seen);
    }
    const HttpReply reply = answer(seen);
    response.status = reply.status;
    if (!reply.location.empty()) response.set_header("Location", reply.location);
    response.set_content(reply.body, "application/octet-stream");
  };
  state_->server.Get(".*", handle);  // HEAD too
  state_->server.Put(".*", handle);
  state_->port = state_->server.bind_to_any_port("127.0.0.1");
  state_->thread = std::thread([this] { state_->server.listen_after_bind(); });
  while (!state_->server.is_running()) std::this_thread::yield();
}

FaultServer::~FaultServer() {
  state_->server.stop();
  state_->thread.join();
}

std::string FaultServer::url() const { return fmt::format("http://127.0.0.1:{}/cache", state_->port); }

std::vector<HttpRequest> FaultServer::requests() const {
  const std::lock_guard lock(state_->mutex);
  return state_->requests;
}

RawServer::RawServer(std::function<void(int)> serve) : serve_(std::move(serve)) {
  listener_ = listen_on_free_port(port_);
  thread_ = std::thread([this] { accept_all(); });
}

RawServer::~RawServer() {
  shutdown(listener_, SHUT_RDWR);  // ends accept
  thread_.join();
  close(listener_);
  for (const int socket : held_) close(socket);
}

void RawServer::accept_all() {
  while (true) {
    const int socket = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    if (socket < 0) return;
    ++connections_;
    if (!serve_) {
      held_.push_back(socket);
      continue;
    }
    serve_(socket);
    close(socket);
  }
}

std::string RawServer::url() const { return fmt::format("http://127.0.0.1:{}", port_); }

void read_head(int socket) {
  std::string head;
  char byte = 0;
  while (!head.ends_with("\r\n\r\n") && read(socket, &byte, 1) == 1) head += byte;
}

bool write_all(int socket, const std::string& text) {
  std::size_t done = 0;
  while (done < text.size()) {
    const ssize_t written = send(socket, text.data() + done, text.size() - done, MSG_NOSIGNAL);
    if (written <= 0) return false;
    done += static_cast<std::size_t>(written);
  }
  return true;
}

RemoteCache patient(const std::string& url) {
  return {
      .url = url, .connect_timeout = std::chrono::minutes(1), .transfer_timeout = std::chrono::minutes(1)};
}

std::uint16_t free_port() {
  std::uint16_t port = 0;
  close(listen_on_free_port(port));
  return port;
}

bool NginxServer::installed() { return !find_nginx().empty(); }

NginxServer::NginxServer(const Tls* tls) : port_(free_port()), tls_(tls != nullptr) {
  const std::filesystem::path root = directory_.path();
  std::filesystem::create_directories(root / "data");
  std::filesystem::create_directories(root / "tmp");
  std::string listening = fmt::format("listen 127.0.0.1:{}{};", port_, tls_ ? " ssl" : "");
  if (tls != nullptr) {
    listening += fmt::format(
        " ssl_certificate {}; ssl_certificate_key {}; ssl_client_certificate {}; ssl_verify_client on;",
        tls->certificate.native(), tls->key.native(), tls->client_authority.native());
  }
  const std::filesystem::path configuration = root / "nginx.conf";
  std::ofstream(configuration) << fmt::format(
      R"(daemon off; master_process off; worker_processes 1; pid {0}/pid; error_log {0}/error.log;
events {{ worker_connections 64; }}
http {{
  access_log off;
  client_body_temp_path {0}/tmp; proxy_temp_path {0}/tmp; fastcgi_temp_path {0}/tmp;
  uwsgi_temp_path {0}/tmp; scgi_temp_path {0}/tmp;
  client_max_body_size 100m;
  server {{
    {1}
    root {0}/data;
    location / {{ dav_methods PUT; create_full_put_path on; }}
  }}
}}
)",
      root.native(), listening);
  const std::string program = find_nginx();
  process_ = fork();
  if (process_ == 0) {
    execl(program.c_str(), "nginx", "-p", root.c_str(), "-c", configuration.c_str(), nullptr);
    _exit(127);
  }
  while (!answers(port_)) {
    if (waitpid(process_, nullptr, WNOHANG) != 0) {
      ADD_FAILURE() << "nginx ended; see " << root / "error.log";
      return;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
}

NginxServer::~NginxServer() {
  kill(process_, SIGTERM);
  waitpid(process_, nullptr, 0);
}

std::string NginxServer::url() const {
  return fmt::format("{}://localhost:{}", tls_ ? "https" : "http", port_);
}

}  // namespace lutsmith
