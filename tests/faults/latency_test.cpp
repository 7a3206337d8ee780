// Faults 28 to 32: stalls, and choices that differ.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <barrier>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <set>
#include <thread>

#include "cache/stores/disk_store.h"
#include "processes.h"
#include "runtime/compile_jobs.h"
#include "stack.h"
#include "synthetic_cubin.h"

namespace lutsmith {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

using LatencyFaults = FaultTest;

TEST_F(LatencyFaults, Case28NoMoreCompilesAtOnceThanThereIsRoomFor) {
  constexpr unsigned kJobs = 3;
  constexpr int kThreads = 64;
  std::atomic<unsigned> running{0};
  std::atomic<unsigned> most{0};
  StackOptions options;
  options.jobs = kJobs;
  options.cubin = [&](Target target, const std::string& kernel) {
    const unsigned now = ++running;
    unsigned before = most;
    while (before < now && !most.compare_exchange_weak(before, now)) {
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    --running;
    return synthetic_cubin(target, kernel);
  };
  const auto kernels = provider(options);
  std::barrier start(kThreads);
  std::vector<std::jthread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] {
      start.arrive_and_wait();
      EXPECT_TRUE(is_right(*kernels, i));
    });
  }
  threads.clear();
  EXPECT_EQ(compiles(), kThreads);
  EXPECT_EQ(most, kJobs);
}

TEST_F(LatencyFaults, Case28LittleMemoryMeansFewCompilesAtOnce) {
  EXPECT_EQ(compile_jobs({.cores = 128, .memory = 2 * kCompileBytes}), 2U);
}

TEST_F(LatencyFaults, Case29ServiceWarmedForEveryBucketNeverMeetsANewTokenCount) {
  ServiceOptions options;
  options.cache_directory = root();
  KernelSpec spec{.format = {.n = 2560, .k = 1376}, .m = 1, .target = *Target::parse("sm_90a")};
  {
    Service warming = *Service::open(options);
    for (const std::int64_t bucket : kTokenBuckets) {
      spec.m = bucket;
      ASSERT_TRUE(warming.compile(spec).has_value());
    }
  }
  options.compile = CompilePolicy::never;
  Service strict = *Service::open(options);
  for (std::int64_t m = 1; m <= 1 << 20; m = m < 1100 ? m + 1 : m * 3) {
    spec.m = m;
    EXPECT_TRUE(strict.compile(spec).has_value()) << m;
  }
  EXPECT_LE(strict.statistics().disk_hits, kTokenBuckets.size()) << "nor does memory grow with them";
}

TEST_F(LatencyFaults, Case29StrictServiceFailsAtOnceAndItsRecordWarmsTheNext) {
  StackOptions strict;
  strict.policy = CompilePolicy::never;
  const auto kernels = provider(strict);
  const auto refused = kernels->compile(request(0));
  ASSERT_FALSE(refused.has_value());
  EXPECT_THAT(refused.error().message, HasSubstr("lutsmith compile --bits 4"));
  EXPECT_EQ(compiles(), 0);
  EXPECT_EQ(kernels->statistics().refusals, 1U);

  ServiceOptions options;
  options.cache_directory = root();
  options.compile = CompilePolicy::never;
  options.record = directory_.path() / "requests.jsonl";
  const KernelSpec spec{.format = {.n = 64, .k = 128}, .m = 77, .target = *Target::parse("sm_90a")};
  EXPECT_FALSE(Service::open(options)->compile(spec).has_value());
  std::ifstream file(options.record);
  EXPECT_EQ(nlohmann::json::parse(file)["m"], 96) << "the bucket of what was refused has to be warmed";
}

TEST_F(LatencyFaults, Case29RequestsThatAreNotAllowedAreNotRecorded) {
  ServiceOptions options;
  options.cache_directory = root();
  options.compile = CompilePolicy::never;
  options.record = directory_.path() / "requests.jsonl";
  Service service = *Service::open(options);
  EXPECT_FALSE(service.compile({.format = {.n = -1, .k = 128}, .m = 1, .target = *Target::parse("sm_90a")})
                   .has_value());
  EXPECT_EQ(fs::file_size(options.record), 0U) << "one would keep the others from being warmed";
}

TEST_F(LatencyFaults, Case30NoMeasurementDecidesWhichKernelIsUsed) {
  // Nothing is tuned on the machine that serves: a busy GPU or a slow compiler cannot change the choice.
  const auto idle = provider();
  const auto busy = provider({.compile_time = std::chrono::milliseconds(50), .wrap = [](auto real) {
                                real.reset();
                                return real;
                              }});
  EXPECT_EQ(idle->compile(request(0))->choice.schedule, busy->compile(request(0))->choice.schedule);
  EXPECT_EQ(idle->compile(request(0))->artifact->key, busy->compile(request(0))->artifact->key);
}

TEST_F(LatencyFaults, Case31RanksOfOneJobChooseTheSameKernels) {
  constexpr int kRanks = 8;
  const auto choose_all = [](const fs::path& file, unsigned first) {
    // Each rank asks in another order.
    std::vector<KernelSpec> specs;
    for (const std::int64_t n : {1024, 4096, 28672}) {
      for (const std::int64_t k : {2048, 4096, 14336}) {
        for (const std::int64_t m : {1, 8, 16, 64})
          specs.push_back({.format = {.n = n, .k = k}, .m = m, .target = *Target::parse("sm_90a")});
      }
    }
    std::map<std::string, std::string> chosen;
    for (std::size_t i = 0; i < specs.size(); ++i) {
      const KernelSpec& spec = specs[(i * 5 + first) % specs.size()];
      const std::vector<Schedule> candidates = schedules(spec).value();
      for (const Schedule& schedule : candidates) chosen[describe(spec)] += describe(schedule);
    }
    std::ofstream out(file);
    for (const auto& [spec, schedules] : chosen) out << spec << schedules << '\n';
    return 0;
  };
  Processes ranks;
  for (unsigned rank = 0; rank < kRanks; ++rank) {
    ranks.start([&] { return choose_all(directory_.path() / std::to_string(rank), rank); });
  }
  ASSERT_EQ(ranks.successes(), kRanks);
  std::set<std::string> choices;
  for (int rank = 0; rank < kRanks; ++rank) {
    std::ifstream file(directory_.path() / std::to_string(rank));
    choices.insert(std::string(std::istreambuf_iterator<char>(file), {}));
  }
  EXPECT_EQ(choices.size(), 1U);
  EXPECT_GT(choices.begin()->size(), 1000U);
}

TEST_F(LatencyFaults, Case32LostOrForeignChoicesAreMadeAgainAndComeOutTheSame) {
  // What was chosen stands with the kernel, in one file for each key: lost, cut off, or of another schema it
  // is a miss, and the choice is made again from the spec alone.
  const auto first = provider()->compile(request(0));
  ASSERT_TRUE(first.has_value());
  const cache::Key key = cache::Key::parse(first->artifact->key).value();
  const auto store = cache::DiskStore::open(root()).value();
  cache::Entry other_schema = store->get(key)->entry;
  auto manifest = nlohmann::json::parse(other_schema.manifest);
  manifest["schema"] = 99;
  other_schema.manifest = manifest.dump();
  const std::vector<std::function<void()>> losses{
      [&] { fs::remove(entry_file(key.hex())); }, [&] { fs::resize_file(entry_file(key.hex()), 10); },
      [&] { ASSERT_TRUE(store->put(key, other_schema).has_value()); }};
  for (const auto& lose : losses) {
    lose();
    const auto again = provider()->compile(request(0));
    ASSERT_TRUE(again.has_value());
    EXPECT_EQ(again->origin, Origin::compiled);
    EXPECT_EQ(again->choice.schedule, first->choice.schedule);
    EXPECT_EQ(again->artifact->key, first->artifact->key);
  }
}

}  // namespace
}  // namespace lutsmith
