#include "cache/stores/remote_store.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <future>
#include <map>

#include "entries.h"
#include "servers.h"

namespace lutsmith::cache {
namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

std::string text_of(const std::vector<std::byte>& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::string encoded(const Entry& entry) { return text_of(encode(entry).value()); }

/// A busy machine may not run a test for longer than a service waits for a connection.
std::unique_ptr<RemoteStore> open(RemoteCache server,
                                  CircuitBreaker::Clock clock = std::chrono::steady_clock::now) {
  server.connect_timeout = std::chrono::minutes(1);
  auto store = RemoteStore::open(server, std::move(clock));
  if (!store) ADD_FAILURE() << store.error().message;
  return *std::move(store);
}

/// Keeps what is put, as a good server does.
class KeepingServer {
 public:
  HttpReply operator()(const HttpRequest& request) {
    if (request.method == "PUT") {
      const bool known = !kept_.insert_or_assign(request.path, request.body).second;
      return {.status = known ? 204 : 201};
    }
    const auto found = kept_.find(request.path);
    if (found == kept_.end()) return {.status = 404};
    return {.status = 200, .body = found->second};
  }

 private:
  std::map<std::string, std::string> kept_;
};

std::vector<std::string> methods(const FaultServer& server) {
  std::vector<std::string> found;
  for (const HttpRequest& request : server.requests()) found.push_back(request.method);
  return found;
}

const Key kKey = key_of("a");

TEST(RemoteStore, PutThenGetInTheLayoutOfBazelRemote) {
  KeepingServer keeping;
  const FaultServer server([&](const HttpRequest& request) { return keeping(request); });
  const auto store = open({.url = server.url() + "/"});
  EXPECT_EQ(store->get(kKey)->state, LookupState::miss);
  ASSERT_TRUE(store->put(kKey, entry_of("one")).has_value());
  const Result<Lookup> found = store->get(kKey);
  ASSERT_TRUE(found.has_value());
  EXPECT_EQ(found->entry, entry_of("one"));
  EXPECT_EQ(found->tier, Tier::remote);
  EXPECT_THAT(methods(server), testing::ElementsAre("GET", "HEAD", "PUT", "GET"));
  for (const HttpRequest& request : server.requests()) EXPECT_EQ(request.path, "/cache/ac/" + kKey.hex());
  EXPECT_EQ(store->statistics().remote_bytes_sent, encoded(entry_of("one")).size());
  EXPECT_EQ(store->statistics().remote_bytes_received, encoded(entry_of("one")).size());
}

TEST(RemoteStore, WhatTheServerHasIsNotSentAgain) {
  KeepingServer keeping;
  const FaultServer server([&](const HttpRequest& request) { return keeping(request); });
  ASSERT_TRUE(open({.url = server.url()})->put(kKey, entry_of("one")).has_value());
  ASSERT_TRUE(open({.url = server.url()})->put(kKey, entry_of("one")).has_value());
  EXPECT_THAT(methods(server), testing::ElementsAre("HEAD", "PUT", "HEAD"));
}

TEST(RemoteStore, DamagedEntryIsFoundAndReplaced) {
  for (const std::size_t keep : {std::size_t{0}, std::size_t{40}, encoded(entry_of("one")).size()}) {
    KeepingServer keeping;
    const FaultServer server([&](const HttpRequest& request) { return keeping(request); });
    std::string bytes = encoded(entry_of("one")).substr(0, keep);
    if (keep > 40) bytes[20] = static_cast<char>(bytes[20] ^ 1);
    keeping({.method = "PUT", .path = "/cache/ac/" + kKey.hex(), .authorization = {}, .body = bytes});
    const auto store = open({.url = server.url()});
    const Result<Lookup> damaged = store->get(kKey);
    ASSERT_TRUE(damaged.has_value());
    EXPECT_EQ(damaged->state, LookupState::damaged);
    EXPECT_THAT(damaged->note, HasSubstr(kKey.hex()));
    ASSERT_TRUE(store->put(kKey, entry_of("two")).has_value());
    EXPECT_THAT(methods(server), testing::ElementsAre("GET", "PUT")) << "replaced without asking";
    EXPECT_EQ(store->get(kKey)->entry, entry_of("two"));
  }
}

TEST(RemoteStore, RemovedEntryIsReplacedByTheNextPut) {
  KeepingServer keeping;
  const FaultServer server([&](const HttpRequest& request) { return keeping(request); });
  const auto store = open({.url = server.url()});
  ASSERT_TRUE(store->put(kKey, entry_of("refused by the driver")).has_value());
  EXPECT_FALSE(store->remove(kKey).value());
  ASSERT_TRUE(store->put(kKey, entry_of("made anew")).has_value());
  EXPECT_EQ(store->get(kKey)->entry, entry_of("made anew"));
}

TEST(RemoteStore, ReadOnlyNeverUploads) {
  const FaultServer server([](const HttpRequest&) { return HttpReply{.status = 404}; });
  const auto store = open({.url = server.url(), .read_only = true});
  EXPECT_TRUE(store->put(kKey, entry_of("one")).has_value());
  EXPECT_TRUE(server.requests().empty());
  EXPECT_EQ(store->get(kKey)->state, LookupState::miss);
}

TEST(RemoteStore, TokenIsSentAndNeverShown) {
  const FaultServer server([](const HttpRequest&) { return HttpReply{.status = 401}; });
  const std::string url = "http://ann:hidden1@" + server.url().substr(7);
  const auto store = open({.url = url, .bearer_token = "hidden2"});
  const Result<Lookup> refused = store->get(kKey);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(server.requests().at(0).authorization, "Bearer hidden2");
  EXPECT_THAT(refused.error().message, AllOf(HasSubstr("401"), HasSubstr("token"), Not(HasSubstr("hidden"))));
  const auto dead =
      open({.url = fmt::format("http://ann:hidden1@127.0.0.1:{}", free_port()), .bearer_token = "hidden2"});
  EXPECT_THAT(dead->get(kKey).error().message, Not(HasSubstr("hidden")));
  for (const RemoteCache& wrong : {RemoteCache{.url = "ftp://ann:hidden1@host"},
                                   RemoteCache{.url = "http://host", .bearer_token = "hidden2\r\nX: y"}}) {
    const auto refused_at_once = RemoteStore::open(wrong);
    ASSERT_FALSE(refused_at_once.has_value());
    EXPECT_THAT(refused_at_once.error().message, Not(HasSubstr("hidden")));
  }
}

TEST(RemoteStore, WrongUrlsAndMissingFilesAreRefusedAtOnce) {
  for (const char* url : {"", "cache:8080", "ftp://cache", "file:///etc/passwd", "http://", "http:///path",
                          "http://cache/?a=b", "http://cache/#x", "http://ca che"}) {
    const auto store = RemoteStore::open({.url = url});
    ASSERT_FALSE(store.has_value()) << url;
    EXPECT_EQ(store.error().code, ErrorCode::invalid_argument) << url;
  }
  const auto store = RemoteStore::open({.url = "https://cache", .client_certificate = "/nowhere/client.pem"});
  ASSERT_FALSE(store.has_value());
  EXPECT_THAT(store.error().message, HasSubstr("/nowhere/client.pem"));
}

TEST(RemoteStore, ErrorsOfTheServerAreErrorsThatSayWhatToDo) {
  const std::map<int, std::string> advice{{500, "500"}, {503, "503"}, {403, "token"}, {302, "redirects"}};
  for (const auto& [status, text] : advice) {
    const FaultServer server([&](const HttpRequest&) {
      return HttpReply{.status = status, .location = status == 302 ? "http://127.0.0.1:1/elsewhere" : ""};
    });
    const auto store = open({.url = server.url()});
    const Result<Lookup> refused = store->get(kKey);
    ASSERT_FALSE(refused.has_value()) << status;
    EXPECT_THAT(refused.error().message, HasSubstr(text));
    EXPECT_EQ(server.requests().size(), 1U) << "no redirect is followed";
    EXPECT_FALSE(store->put(kKey, entry_of("one")).has_value()) << status;
  }
}

TEST(RemoteStore, ServerThatRefusesPutsIsTold) {
  const FaultServer server(
      [](const HttpRequest& request) { return HttpReply{.status = request.method == "PUT" ? 405 : 404}; });
  const Result<void> put = open({.url = server.url()})->put(kKey, entry_of("one"));
  ASSERT_FALSE(put.has_value());
  EXPECT_THAT(put.error().message, HasSubstr("read only"));
}

// How servers fail that speak no HTTP, or too little of it.

/// What a store says of a server.
Result<Lookup> ask(const std::string& url, milliseconds longest = std::chrono::minutes(1)) {
  return open({.url = url, .transfer_timeout = longest})->get(kKey);
}

TEST(RemoteStoreFaults, RefusedConnectionIsAnError) {
  const Result<Lookup> lookup = ask(fmt::format("http://127.0.0.1:{}", free_port()));
  ASSERT_FALSE(lookup.has_value());
  EXPECT_EQ(lookup.error().code, ErrorCode::io_error);
}

TEST(RemoteStoreFaults, ServerThatNeverAnswersIsGivenUp) {
  const RawServer server(nullptr);
  EXPECT_FALSE(ask(server.url(), milliseconds(500)).has_value());
}

TEST(RemoteStoreFaults, BodyThatTricklesIsGivenUp) {
  const RawServer server([](int socket) {
    read_head(socket);
    write_all(socket, "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n");
    while (write_all(socket, "x")) std::this_thread::sleep_for(milliseconds(20));
  });
  EXPECT_FALSE(ask(server.url(), milliseconds(500)).has_value());
}

TEST(RemoteStoreFaults, BodyThatIsCutOffIsNeverAnEntry) {
  const std::string body = encoded(entry_of("one"));
  for (const std::size_t sent : {std::size_t{0}, std::size_t{1}, body.size() / 2, body.size() - 1}) {
    const RawServer server([&](int socket) {
      read_head(socket);
      write_all(socket, fmt::format("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.size()));
      write_all(socket, body.substr(0, sent));
    });
    EXPECT_FALSE(ask(server.url()).has_value()) << sent;
  }
}

TEST(RemoteStoreFaults, AnswerThatIsNoHttpIsAnError) {
  for (const char* answer : {"", "hello\r\n\r\n", "HTTP/1.1 banana\r\n\r\n", "\xff\xfe\r\n\r\n"}) {
    const RawServer server([&](int socket) {
      read_head(socket);
      write_all(socket, answer);
    });
    EXPECT_FALSE(ask(server.url()).has_value()) << answer;
  }
}

TEST(RemoteStoreFaults, HugeBodiesAreNotReadToTheirEnd) {
  const RawServer announced([](int socket) {
    read_head(socket);
    write_all(socket, "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999\r\n\r\n");
    write_all(socket, std::string(1000, 'x'));
  });
  const Result<Lookup> refused = ask(announced.url());
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, ErrorCode::corrupt_data);

  std::promise<std::size_t> sent;
  const RawServer endless([&](int socket) {
    read_head(socket);
    write_all(socket, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    const std::string chunk = "100000\r\n" + std::string(0x100000, 'x') + "\r\n";
    std::size_t chunks = 0;
    while (write_all(socket, chunk)) ++chunks;
    sent.set_value(chunks);
  });
  const auto store = open({.url = endless.url(), .transfer_timeout = std::chrono::minutes(5)});
  const Result<Lookup> cut = store->get(kKey);
  ASSERT_FALSE(cut.has_value());
  EXPECT_EQ(cut.error().code, ErrorCode::corrupt_data);
  EXPECT_LE(sent.get_future().get(), kMaxEntryBytes / 0x100000 + 16) << "and what sockets hold";
}

TEST(RemoteStoreFaults, DeadServerIsAskedOnceAndThenLeftAlone) {
  const RawServer server([](int socket) { read_head(socket); });  // hangs up
  std::atomic<int> minutes{0};
  const auto store = open({.url = server.url()}, [&] {
    return std::chrono::steady_clock::time_point(std::chrono::minutes(minutes + 1000));
  });
  EXPECT_FALSE(store->get(kKey).has_value());
  const int first = server.connections();
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(store->get(kKey)->state, LookupState::miss);
    EXPECT_THAT(store->put(kKey, entry_of("one")).error().message, HasSubstr("left alone"));
  }
  EXPECT_EQ(server.connections(), first);
  EXPECT_EQ(store->statistics().remote_skipped, 200U);
  minutes = 1;
  EXPECT_FALSE(store->get(kKey).has_value()) << "asked again after the pause";
  EXPECT_GT(server.connections(), first);
}

TEST(RemoteStoreFaults, ServerThatLiesThreeTimesIsLeftAlone) {
  const FaultServer server(
      [](const HttpRequest&) { return HttpReply{.status = 200, .body = "no entry at all"}; });
  const auto store = open({.url = server.url()});
  for (int i = 0; i < 10; ++i) {
    const Result<Lookup> lookup = store->get(key_of(std::to_string(i)));
    ASSERT_TRUE(lookup.has_value());
    EXPECT_EQ(lookup->state, i < 3 ? LookupState::damaged : LookupState::miss);
  }
  EXPECT_EQ(server.requests().size(), 3U);
}

TEST(RemoteStoreFaults, ServerThatTakesNothingIsNotGivenMoreButStillAsked) {
  const FaultServer server(
      [](const HttpRequest& seen) { return HttpReply{.status = seen.method == "PUT" ? 500 : 404}; });
  const auto store = open({.url = server.url()});
  for (int i = 0; i < 10; ++i) {
    const Key key = key_of(std::to_string(i));
    EXPECT_EQ(store->get(key)->state, LookupState::miss);
    EXPECT_FALSE(store->put(key, entry_of("one")).has_value());
  }
  const std::vector<HttpRequest> seen = server.requests();
  EXPECT_EQ(std::ranges::count(seen, "PUT", &HttpRequest::method), 3);
  EXPECT_EQ(std::ranges::count(seen, "GET", &HttpRequest::method), 10);
}

TEST(RemoteStoreFaults, CancelEndsACallThatWaits) {
  const RawServer server(nullptr);
  const auto store = open({.url = server.url(), .transfer_timeout = std::chrono::hours(1)});
  std::thread waiting([&] { EXPECT_FALSE(store->get(kKey).has_value()); });
  while (server.connections() == 0) std::this_thread::sleep_for(milliseconds(1));
  store->cancel();
  waiting.join();
}

TEST(RemoteStore, ForkedCopyUsesConnectionsOfItsOwn) {
  KeepingServer keeping;
  const FaultServer server([&](const HttpRequest& request) { return keeping(request); });
  const auto store = open({.url = server.url()});
  ASSERT_TRUE(store->put(kKey, entry_of("one")).has_value());
  const pid_t child = fork();
  if (child == 0) {
    alarm(60);
    const Result<Lookup> lookup = store->get(kKey);
    _exit(lookup && lookup->entry == entry_of("one") ? 0 : 1);
  }
  int status = -1;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(store->get(kKey)->entry, entry_of("one"));
}

TEST(RemoteStoreNginx, WebDavServesAsARemoteCache) {
  if (!NginxServer::installed()) GTEST_SKIP() << "nginx is not installed (Debian package nginx-light)";
  const NginxServer server;
  const auto store = open({.url = server.url()});
  EXPECT_EQ(store->get(kKey)->state, LookupState::miss);
  ASSERT_TRUE(store->put(kKey, entry_of("one")).has_value());
  ASSERT_TRUE(fs::exists(server.file(kKey.hex())));
  EXPECT_EQ(open({.url = server.url()})->get(kKey)->entry, entry_of("one"));
  fs::resize_file(server.file(kKey.hex()), 50);
  EXPECT_EQ(store->get(kKey)->state, LookupState::damaged);
  ASSERT_TRUE(store->put(kKey, entry_of("two")).has_value());
  EXPECT_EQ(store->get(kKey)->entry, entry_of("two"));
}

/// Authority, server and client certificates, by the openssl command.
class Certificates {
 public:
  Certificates() {
    const std::string script = fmt::format(
        R"(cd '{}' && for a in good bad; do
  openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=$a-ca -keyout $a-ca.key -out $a-ca.pem
  for c in server client; do
    openssl req -newkey rsa:2048 -nodes -subj /CN=localhost -addext subjectAltName=DNS:localhost \
      -keyout $a-$c.key -out $a-$c.csr
    openssl x509 -req -in $a-$c.csr -CA $a-ca.pem -CAkey $a-ca.key -CAcreateserial -days 2 \
      -copy_extensions copy -out $a-$c.pem
  done
done)",
        directory_.path().native());
    made_ = std::system(("(" + script + ") > /dev/null 2>&1").c_str()) == 0;
  }
  bool made() const { return made_; }
  fs::path operator()(const std::string& name) const { return directory_.path() / name; }

 private:
  TemporaryDirectory directory_;
  bool made_ = false;
};

TEST(RemoteStoreNginx, MutualTlsAdmitsOnlyWhoHasTheRightCertificate) {
  if (!NginxServer::installed()) GTEST_SKIP() << "nginx is not installed (Debian package nginx-light)";
  if (std::system("openssl version > /dev/null 2>&1") != 0) GTEST_SKIP() << "openssl is not installed";
  const Certificates file;
  ASSERT_TRUE(file.made());
  const NginxServer::Tls tls{.certificate = file("good-server.pem"),
                             .key = file("good-server.key"),
                             .client_authority = file("good-ca.pem")};
  const NginxServer server(&tls);
  const RemoteCache right{.url = server.url(),
                          .client_certificate = file("good-client.pem"),
                          .client_key = file("good-client.key"),
                          .certificate_authority = file("good-ca.pem")};
  ASSERT_TRUE(open(right)->put(kKey, entry_of("one")).has_value());
  EXPECT_EQ(open(right)->get(kKey)->entry, entry_of("one"));

  RemoteCache nobody = right;
  nobody.client_certificate = nobody.client_key = "";
  EXPECT_FALSE(open(nobody)->get(kKey).has_value());
  RemoteCache stranger = right;
  stranger.client_certificate = file("bad-client.pem");
  stranger.client_key = file("bad-client.key");
  EXPECT_FALSE(open(stranger)->get(kKey).has_value());
  RemoteCache deceived = right;
  deceived.certificate_authority = file("bad-ca.pem");
  EXPECT_FALSE(open(deceived)->get(kKey).has_value()) << "a server that another authority vouches for";
}

}  // namespace
}  // namespace lutsmith::cache
