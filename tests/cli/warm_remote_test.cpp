#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <mutex>

#include "cache/stores/remote_store.h"
#include "choices/database.h"
#include "choices/shared_choices.h"
#include "lutsmith/codegen.h"
#include "must.h"
#include "servers.h"
#include "small_kernels.h"

namespace lutsmith::tests {
namespace {

using testing::HasSubstr;

/// A server that keeps in memory what it is given.
class SharedCache {
 public:
  std::string url() const { return server_.url(); }
  std::size_t size() const {
    const std::lock_guard lock(mutex_);
    return bodies_.size();
  }

 private:
  HttpReply answer(const HttpRequest& request) {
    const std::lock_guard lock(mutex_);
    if (request.method == "PUT") {
      bodies_[request.path] = request.body;
      return {.status = 201};
    }
    const auto found = bodies_.find(request.path);
    return found == bodies_.end() ? HttpReply{.status = 404} : HttpReply{.body = found->second};
  }

  mutable std::mutex mutex_;
  std::map<std::string, std::string> bodies_;
  FaultServer server_{[this](const HttpRequest& request) { return answer(request); }};
};

/// Machines with a directory each.
class WarmRemote : public testing::Test {
 protected:
  nlohmann::json warm_on(const std::string& machine, const std::string& url, int exit_code = 0) {
    program_.set_environment("LUTSMITH_CACHE_DIR", program_.file(machine));
    program_.set_environment("LUTSMITH_REMOTE_CACHE", url);
    last_ = program_.run(small_kernels("warm", "2,3", {"--json"}));
    EXPECT_EQ(last_.exit_code, exit_code) << last_.errors;
    return last_.json();
  }

  CommandLine program_;
  Outcome last_;
};

TEST_F(WarmRemote, ASecondMachineCompilesNothing) {
  const SharedCache cache;
  const auto first = warm_on("one", cache.url());
  EXPECT_EQ(first["compiled"], 2);
  EXPECT_EQ(first["shared"], true);
  EXPECT_EQ(cache.size(), 2U);
  const auto second = warm_on("two", cache.url());
  EXPECT_EQ(second["compiled"], 0);
  EXPECT_EQ(second["hits"], 2);
  EXPECT_EQ(second["lost"], 0);
  EXPECT_EQ(warm_on("two", "")["hits"], 2) << "what came from the server was not kept";
  EXPECT_TRUE(last_.json()["shared"].is_null());
}

TEST_F(WarmRemote, CompileTellsThatAKernelCameFromTheServer) {
  const SharedCache cache;
  warm_on("one", cache.url());
  program_.set_environment("LUTSMITH_CACHE_DIR", program_.file("two"));
  const auto compiled = program_.run(small_kernels("compile", "2", {"--json"})).json();
  EXPECT_EQ(compiled["cache"], "hit");
  EXPECT_EQ(compiled["origin"], "remote");
}

TEST_F(WarmRemote, NginxServesKernelsToo) {
  if (!NginxServer::installed()) GTEST_SKIP() << "nginx is not installed (Debian package nginx-light)";
  const NginxServer nginx;
  const auto first = warm_on("one", nginx.url());
  EXPECT_EQ(first["compiled"], 2);
  for (const auto& kernel : first["kernels"]) {
    EXPECT_TRUE(std::filesystem::exists(nginx.file(kernel["key"].get<std::string>())));
  }
  EXPECT_EQ(warm_on("two", nginx.url())["compiled"], 0);
}

TEST_F(WarmRemote, WhatOthersTunedIsWarmedBesideTheModelsChoice) {
  const SharedCache cache;
  ASSERT_FALSE(choices::shipped_documents().empty());
  const choices::Gpu gpu = choices::shipped_documents().front().gpu();
  choices::Entry entry;
  entry.spec = {.format = {.bits = 4, .group = 128, .n = 64, .k = 128}, .m = 1, .target = gpu.target};
  entry.schedules = {test::must(schedules(entry.spec)).at(3)};
  entry.choice = {.schedule = 0, .partitions = 1, .microseconds = 1};
  entry.standard = {.schedule = 0, .partitions = 1, .microseconds = 1};
  entry.conditions.measured = "2026-01-02T03:04:05Z";
  choices::SharedChoices(test::must(cache::RemoteStore::open(patient(cache.url()))), {}).send(gpu, entry);
  ASSERT_EQ(cache.size(), 1U);
  const std::vector<std::string> warm{
      "warm", "--n", "64", "--k", "128", "--m", "1", "--target", std::string(gpu.target.name()), "--json"};
  program_.set_environment("LUTSMITH_CACHE_DIR", program_.file("one"));
  EXPECT_EQ(program_.run(warm).json()["requested"], 1) << "without the server";
  program_.set_environment("LUTSMITH_REMOTE_CACHE", cache.url());
  const auto warmed = program_.run(warm).json();
  EXPECT_EQ(warmed["requested"], 2);
  EXPECT_EQ(warmed["compiled"], 1);
  EXPECT_EQ(warmed["hits"], 1);
}

TEST_F(WarmRemote, AServerThatIsOnlyReadGetsNothing) {
  const SharedCache cache;
  program_.set_environment("LUTSMITH_REMOTE_CACHE_MODE", "read-only");
  EXPECT_TRUE(warm_on("one", cache.url())["shared"].is_null());
  EXPECT_EQ(cache.size(), 0U);
}

TEST_F(WarmRemote, KernelsThatDoNotReachTheServerAreToldAndAreKeptAllTheSame) {
  const FaultServer failing(
      [](const HttpRequest& request) { return HttpReply{.status = request.method == "PUT" ? 500 : 404}; });
  EXPECT_EQ(warm_on("one", failing.url())["shared"], false);
  EXPECT_THAT(last_.errors, HasSubstr("not all kernels have reached the remote cache"));
  EXPECT_EQ(warm_on("two", fmt::format("http://127.0.0.1:{}", free_port()))["shared"], false);
  EXPECT_EQ(last_.json()["compiled"], 2);
  EXPECT_EQ(kernels_in_cache(program_), 2U);
}

}  // namespace
}  // namespace lutsmith::tests
