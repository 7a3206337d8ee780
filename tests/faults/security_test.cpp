// Faults 24 to 27: other users, hostile bytes, hostile servers.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

#include "cache/bundles/bundle.h"
#include "cache/stores/disk_store.h"
#include "cache/stores/memory_store.h"
#include "processes.h"
#include "servers.h"
#include "stack.h"

namespace lutsmith {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::IsEmpty;

using SecurityFaults = FaultTest;

unsigned mode_of(const fs::path& path) {
  struct stat status{};
  EXPECT_EQ(lstat(path.c_str(), &status), 0) << path;
  return status.st_mode & 07777U;
}

TEST_F(SecurityFaults, Case24DirectoryThatIsALinkIsNotUsed) {
  const fs::path elsewhere = directory_.path() / "elsewhere";
  fs::create_directory(elsewhere);
  fs::create_directory_symlink(elsewhere, root());
  EXPECT_TRUE(is_right(*provider(), 0));
  ASSERT_EQ(warnings().size(), 1U);
  EXPECT_THAT(warnings().at(0), HasSubstr("symbolic link"));
  EXPECT_TRUE(fs::is_empty(elsewhere));
}

TEST_F(SecurityFaults, Case24DirectoryThatOthersCanWriteToIsNotUsed) {
  fs::create_directory(root());
  fs::permissions(root(), fs::perms::all);
  EXPECT_TRUE(is_right(*provider(), 0));
  ASSERT_EQ(warnings().size(), 1U);
  EXPECT_THAT(warnings().at(0), HasSubstr("chmod 700"));
  EXPECT_TRUE(fs::is_empty(root()));
}

TEST_F(SecurityFaults, Case24DirectoryMadeBeforehandByAnotherUserIsNotUsed) {
  if (geteuid() != 0) GTEST_SKIP() << "needs the superuser, to make a directory that is another's";
  fs::create_directory(root());
  fs::permissions(root(), fs::perms::owner_all);
  ASSERT_EQ(chown(root().c_str(), 4242, 4242), 0);
  EXPECT_TRUE(is_right(*provider(), 0));
  ASSERT_EQ(warnings().size(), 1U);
  EXPECT_THAT(warnings().at(0), HasSubstr("belongs to user 4242"));
  EXPECT_TRUE(fs::is_empty(root()));
}

TEST_F(SecurityFaults, Case24ReadOnlyDirectoryOfAnotherUserIsNotReadEither) {
  if (geteuid() != 0) GTEST_SKIP() << "needs the superuser, to make a directory that is another's";
  ASSERT_TRUE(is_right(*provider(), 0));
  ASSERT_EQ(chown(root().c_str(), 4242, 4242), 0);
  StackOptions options;
  options.service.cache_directory = directory_.path() / "own";
  options.service.system_directories = std::vector{root()};
  EXPECT_EQ(provider(options)->compile(request(0))->origin, Origin::compiled);
  EXPECT_EQ(warnings().size(), 1U);
}

TEST_F(SecurityFaults, Case24WhatOthersLeftInADirectoryBeforeItWasMadePrivateIsNotUsed) {
  if (geteuid() != 0) GTEST_SKIP() << "needs the superuser, to make a file that is another's";
  const std::string key = provider()->compile(request(0))->artifact->key;
  ASSERT_EQ(chown(entry_file(key).c_str(), 4242, 4242), 0);
  EXPECT_EQ(provider()->compile(request(0))->origin, Origin::compiled);
  ASSERT_EQ(chown(entry_file(key).parent_path().c_str(), 4242, 4242), 0);
  EXPECT_EQ(provider()->compile(request(0))->origin, Origin::compiled);
  EXPECT_THAT(warnings().back(), HasSubstr("belongs to user 4242"));
}

TEST_F(SecurityFaults, Case25UmaskNeitherLocksOutNorLetsIn) {
  for (const mode_t mask : {0000U, 0077U, 0777U}) {
    const fs::path place = directory_.path() / std::to_string(mask);
    Processes processes;
    processes.start([&] {
      umask(mask);
      StackOptions options;
      options.service.cache_directory = place;
      return is_right(*provider(options), 0) ? 0 : 1;
    });
    ASSERT_EQ(processes.successes(), 1);
    StackOptions options;
    options.service.cache_directory = place;
    EXPECT_TRUE(is_right(*provider(options), 0)) << "readable for its own user again";
    for (const auto& file : fs::recursive_directory_iterator(place)) {
      EXPECT_EQ(mode_of(file.path()) & 0077U, 0U) << file.path() << " is for others to see";
    }
    EXPECT_EQ(mode_of(place) & 0077U, 0U);
  }
}

TEST_F(SecurityFaults, Case26HostileEntriesAreDataAndNothingElse) {
  const std::string key = provider()->compile(request(0))->artifact->key;
  const cache::Entry good =
      cache::DiskStore::open(root()).value()->get(cache::Key::parse(key).value())->entry;
  // Sealed with the right digest, so that only what stands inside can give them away.
  cache::Entry nested = good;
  nested.manifest = std::string(1 << 19, '[') + std::string(1 << 19, ']');
  cache::Entry no_json = good;
  no_json.manifest = std::string("\xff\x00\x01", 3);
  cache::Entry no_kernel = good;
  no_kernel.payload.assign(1 << 20, std::byte{0x7f});
  cache::Entry empty = good;
  empty.payload.clear();
  for (const cache::Entry& hostile : {nested, no_json, no_kernel, empty}) {
    const auto store = cache::DiskStore::open(root()).value();
    ASSERT_TRUE(store->put(cache::Key::parse(key).value(), hostile).has_value());
    EXPECT_TRUE(is_right(*provider(), 0));
    EXPECT_EQ(store->get(cache::Key::parse(key).value())->entry, good) << "replaced";
  }
}

TEST_F(SecurityFaults, Case26EntryThatIsNoGoodDoesNotHideAGoodOneFartherAway) {
  const std::string key = provider()->compile(request(0))->artifact->key;
  StackOptions strict;
  strict.policy = CompilePolicy::never;
  strict.service.cache_directory = directory_.path() / "own";
  strict.service.system_directories = std::vector{root()};
  const auto own = cache::DiskStore::open(strict.service.cache_directory).value();
  const cache::Entry wrong{.manifest = "{}", .payload = {}};
  ASSERT_TRUE(own->put(cache::Key::parse(key).value(), wrong).has_value());
  const auto kernels = provider(strict);
  EXPECT_TRUE(is_right(*kernels, 0));
  EXPECT_EQ(kernels->statistics().system_hits, 1U);
  EXPECT_EQ(kernels->statistics().repairs, 1U);
}

TEST_F(SecurityFaults, Case26EntryThatUnpacksToMoreThanAllowedIsRefused) {
  const cache::Key key = cache::Key::of({.source = "a", .options = {}, .compiler = {}, .target = {}});
  const cache::Entry huge{.manifest = {}, .payload = std::vector<std::byte>(cache::kMaxPayloadBytes + 1)};
  EXPECT_FALSE(cache::DiskStore::open(root()).value()->put(key, huge).has_value());
}

TEST_F(SecurityFaults, Case26BundleCannotNameAPath) {
  for (const char* key : {"../../../../../../tmp/x", "/etc/passwd", "..", ""}) {
    const std::string json =
        std::string(R"({"schema":1,"created":"2025-01-31T23:59:59Z","signer":"","entries":[)") +
        R"({"key":")" + key + R"(","bytes":100,"sha256":")" + std::string(64, 'a') + "\"}]}";
    EXPECT_FALSE(cache::parse_bundle_index(json).has_value()) << key;
  }
}

/// Whole stacks with a server as their only tier that can have anything.
class RemoteFaults : public FaultTest {
 protected:
  StackOptions with(const std::string& url, bool read_only = false) const {
    StackOptions options;
    options.service.remote_cache = patient(url);
    options.service.remote_cache->read_only = read_only;
    return options;
  }
};

TEST_F(RemoteFaults, Case27DeadServerIsToldOnceAndLeftAlone) {
  const auto kernels = provider(with("http://127.0.0.1:" + std::to_string(free_port())));
  for (int i = 0; i < 50; ++i) EXPECT_TRUE(is_right(*kernels, i));
  EXPECT_FALSE(kernels->flush(std::chrono::minutes(1))) << "the server has none of them";
  EXPECT_EQ(warnings().size(), 1U);
  EXPECT_LE(kernels->statistics().remote_failures, 2U) << "a get, and a put that was under way";
  EXPECT_GE(kernels->statistics().remote_skipped, 98U);
}

TEST_F(RemoteFaults, Case27ServerThatNeverAnswersCostsOneWait) {
  const RawServer server(nullptr);
  StackOptions options = with(server.url());
  options.service.remote_cache->transfer_timeout = std::chrono::milliseconds(300);
  const auto kernels = provider(options);
  for (int i = 0; i < 50; ++i) EXPECT_TRUE(is_right(*kernels, i));
  EXPECT_FALSE(kernels->flush(std::chrono::minutes(1)));
  EXPECT_LE(server.connections(), 2);
}

TEST_F(RemoteFaults, Case27ErrorsAndLiesNeverBecomeKernels) {
  const std::string key = provider()->compile(request(0))->artifact->key;
  std::string good(fs::file_size(entry_file(key)), '\0');
  std::ifstream(entry_file(key), std::ios::binary)
      .read(good.data(), static_cast<std::streamsize>(good.size()));
  std::string flipped = good;
  flipped[good.size() / 2] = static_cast<char>(flipped[good.size() / 2] ^ 4);
  // The entry of request 0 is whole, but another's than the requests below ask for.
  for (const HttpReply& reply :
       {HttpReply{.status = 500}, HttpReply{.body = flipped}, HttpReply{.body = good},
        HttpReply{.body = good.substr(0, 40)}, HttpReply{.body = "<html>"}}) {
    fs::remove_all(root());
    const FaultServer server([&](const HttpRequest&) { return reply; });
    const auto kernels = provider(with(server.url()));
    for (int i = 1; i < 6; ++i) EXPECT_TRUE(is_right(*kernels, i));
    EXPECT_EQ(kernels->statistics().compiles, 5U);
  }
}

TEST_F(RemoteFaults, Case27IntactEntryThatIsNoGoodIsReplacedOnTheServer) {
  std::mutex mutex;
  std::map<std::string, std::string> kept;
  const auto wrong = cache::encode({.manifest = "{}", .payload = {}}).value();
  const std::string wrong_text(reinterpret_cast<const char*>(wrong.data()), wrong.size());
  const FaultServer server([&](const HttpRequest& seen) -> HttpReply {
    const std::lock_guard lock(mutex);
    if (seen.method == "PUT") kept[seen.path] = seen.body;
    return {.body = kept.contains(seen.path) ? kept[seen.path] : wrong_text};
  });
  const auto kernels = provider(with(server.url()));
  EXPECT_TRUE(is_right(*kernels, 0));
  EXPECT_TRUE(kernels->flush(std::chrono::minutes(1)));
  EXPECT_EQ(kernels->statistics().repairs, 1U) << "told once";
  StackOptions other_machine = with(server.url());
  other_machine.service.cache_directory = directory_.path() / "other";
  EXPECT_EQ(provider(other_machine)->compile(request(0))->origin, Origin::remote);
}

TEST_F(RemoteFaults, Case27ServerThatHangsUpInTheMiddleCostsACompile) {
  const RawServer server([](int socket) {
    read_head(socket);
    write_all(socket, "HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\nLUTSMITH");
  });
  EXPECT_TRUE(is_right(*provider(with(server.url())), 0));
}

TEST_F(RemoteFaults, Case27ReadOnlyNeverUploads) {
  const FaultServer server([](const HttpRequest&) { return HttpReply{.status = 404}; });
  const auto kernels = provider(with(server.url(), /*read_only=*/true));
  for (int i = 0; i < 5; ++i) EXPECT_TRUE(is_right(*kernels, i));
  EXPECT_TRUE(kernels->flush(std::chrono::minutes(1)));
  for (const HttpRequest& seen : server.requests()) EXPECT_EQ(seen.method, "GET");
}

TEST_F(RemoteFaults, Case27GoodServerSparesOtherMachinesTheCompile) {
  std::mutex mutex;
  std::map<std::string, std::string> kept;
  const FaultServer server([&](const HttpRequest& seen) -> HttpReply {
    const std::lock_guard lock(mutex);
    if (seen.method == "PUT") kept[seen.path] = seen.body;
    return kept.contains(seen.path) ? HttpReply{.body = kept[seen.path]} : HttpReply{.status = 404};
  });
  const auto first = provider(with(server.url()));
  EXPECT_TRUE(is_right(*first, 0));
  EXPECT_TRUE(first->flush(std::chrono::minutes(1)));
  StackOptions other_machine = with(server.url());
  other_machine.service.cache_directory = directory_.path() / "other";
  EXPECT_EQ(provider(other_machine)->compile(request(0))->origin, Origin::remote);
  EXPECT_EQ(provider(other_machine)->compile(request(0))->origin, Origin::disk) << "kept nearer";
  EXPECT_EQ(compiles(), 1);
}

}  // namespace
}  // namespace lutsmith
