#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "cache/stores/remote_store.h"
#include "choices/database.h"
#include "choices/document_entry.h"
#include "choices/shared_choices.h"
#include "choices/source.h"
#include "lutsmith/codegen.h"
#include "must.h"
#include "processes.h"
#include "servers.h"
#include "simulated_workbench.h"
#include "stack.h"
#include "synthetic_cubin.h"
#include "tuning/campaign.h"

// Faults of docs/cache.md where choices were measured.

namespace lutsmith {
namespace {

namespace fs = std::filesystem;
using test::must;
using test::SimulatedTimes;
using test::SimulatedWorkbench;
using testing::HasSubstr;

class TunedFaults : public FaultTest {
 protected:
  TunedFaults() {
    fs::create_directory(root());
    fs::permissions(root(), fs::perms::owner_all);
  }

  static KernelSpec spec(std::int64_t m = 1) {
    return {.format = {.bits = 4, .group = 128, .n = 4096, .k = 4096},
            .m = m,
            .target = must(Target::parse("sm_90a"))};
  }
  /// The cost model's first schedule is better than all others but the seventh, which takes half its time.
  static double cost(const Choice& choice) {
    static const std::vector<Schedule> ranked = must(schedules(spec()));
    return choice.schedule == ranked[6] ? 2.5 : choice.schedule == ranked[0] ? 5.0 : 6.0;
  }
  choices::Gpu gpu() const { return bench_.gpu(); }
  choices::Database database() const { return {root(), {}}; }
  /// Tunes spec(m) on a GPU that behaves as `times` says.
  void tune(std::int64_t m, const SimulatedTimes& times = {}) {
    SimulatedWorkbench bench(times, cost);
    const std::vector<KernelSpec> specs{spec(m)};
    must(tuning::tune_missing(bench, "", database(), specs, {}));
  }
  choices::Candidate first_choice(choices::Source& source, std::int64_t m = 1) const {
    const choices::Gpu here = gpu();
    return must(source.candidates(spec(m), &here)).front();
  }
  choices::TunedSource tuned() {
    return {database(), [this](std::string_view text) { told_ += text; }};
  }

  SimulatedWorkbench bench_{SimulatedTimes{}, cost};
  std::string told_;
};

TEST_F(TunedFaults, Case28CompilesOfACampaignAndOfRequestsShareOneLimit) {
  constexpr unsigned kJobs = 2;
  std::atomic<int> running{0};
  std::atomic<int> most{0};
  const auto kernels = provider({.compile_time = std::chrono::milliseconds(5),
                                 .jobs = kJobs,
                                 .cubin = [&](Target target, const std::string& kernel) {
                                   const int now = ++running;
                                   int before = most;
                                   while (before < now && !most.compare_exchange_weak(before, now)) {
                                   }
                                   std::this_thread::sleep_for(std::chrono::milliseconds(2));
                                   --running;
                                   return synthetic_cubin(target, kernel);
                                 }});
  std::vector<std::jthread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&, i] {
      for (int j = 0; j < 4; ++j) {
        Request wanted = request(i * 4 + j);
        if (i % 2 == 0) wanted.choice = Choice(FewTokensSchedule{}, j + 1);  // as a campaign asks
        EXPECT_TRUE(kernels->compile(wanted).has_value());
      }
    });
  }
  threads.clear();
  EXPECT_LE(most, static_cast<int>(kJobs));
}

TEST_F(TunedFaults, Case29TunedKernelServesEveryNumberOfTokensOfItsBucket) {
  tune(8);
  choices::TunedSource source = tuned();
  const Choice choice = first_choice(source, 8).choice;
  for (const std::int64_t m : {2, 3, 5, 8}) {
    EXPECT_EQ(first_choice(source, m).origin, ChoiceOrigin::tuned) << m;
    EXPECT_EQ(first_choice(source, m).choice, choice) << m;
  }
  EXPECT_EQ(first_choice(source, 9).origin, ChoiceOrigin::model);
}

TEST_F(TunedFaults, Case30BusyGpuCannotMakeALoserTheChoice) {
  for (unsigned seed = 1; seed <= 20; ++seed) {
    fs::remove_all(root() / "tuned");
    SimulatedTimes times;
    times.noise = 0.01;
    times.seed = seed;
    times.disturbed_every = 3 + static_cast<int>(seed % 5);  // somebody else's kernels
    times.slowness = [](double now) { return 1 + now / 100'000; };
    tune(1, times);
    choices::TunedSource source = tuned();
    EXPECT_LE(cost(first_choice(source).choice), 5.0) << seed << ": one that is slower than the default";
  }
}

TEST_F(TunedFaults, Case31RanksThatReplayADocumentChooseTheSameWhateverTheirMachinesTuned) {
  tune(1);
  const fs::path pinned = directory_.path() / "pinned.json";
  must(choices::write_file(pinned, database().read_own(gpu())));
  Processes ranks;
  constexpr int kRanks = 8;
  for (int rank = 0; rank < kRanks; ++rank) {
    ranks.start([&, rank] {
      // What this rank's machine would choose by itself.
      choices::Document own(gpu());
      choices::Entry other = *must(choices::read_document(pinned)).find(spec());
      other.choice.partitions = 1 + rank;
      other.conditions.measured = "2030-01-01T00:00:00Z";
      own.put(other);
      const fs::path mine = directory_.path() / ("rank" + std::to_string(rank));
      fs::create_directory(mine);
      fs::permissions(mine, fs::perms::owner_all);
      must(choices::Database(mine, {}).add(own));
      choices::TunedSource local({mine, {}}, {});
      if (first_choice(local).choice.partitions != 1 + rank) return 1;
      choices::PinnedSource replay(must(choices::read_document(pinned)), choices::Missing::error);
      const Choice chosen = first_choice(replay).choice;
      // A spec that the document lacks is an error on every rank, not a choice of each.
      if (replay.candidates(spec(16), nullptr)) return 2;
      return chosen == must(choices::read_document(pinned)).find(spec())->chosen() ? 0 : 3;
    });
  }
  EXPECT_EQ(ranks.successes(), kRanks);
}

TEST_F(TunedFaults, Case32LostTornOrForeignDocumentIsAMissThatIsTold) {
  tune(1);
  const fs::path file = database().path_of(gpu());
  const std::string whole = file_bytes(file);
  const auto write = [&](const std::string& text) {
    std::ofstream(file, std::ios::binary | std::ios::trunc) << text;
  };
  const std::vector<std::pair<std::string, std::function<void()>>> losses{
      {"", [&] { fs::remove(file); }},
      {"cut off", [&] { write(whole.substr(0, whole.size() / 3)); }},
      {"schema is 9", [&] { write("{\"schema\": 9}"); }},
      {"no document", [&] { write("{\"a\": 1}"); }},
      {"cut off", [&] { write(std::string(1000, '\0')); }}};
  for (const auto& [complaint, lose] : losses) {
    write(whole);
    choices::TunedSource before = tuned();
    ASSERT_EQ(first_choice(before).origin, ChoiceOrigin::tuned);
    lose();
    told_.clear();
    choices::TunedSource after = tuned();
    EXPECT_EQ(first_choice(after).origin, ChoiceOrigin::model) << complaint;
    EXPECT_THAT(told_, HasSubstr(complaint));
    EXPECT_EQ(told_.empty(), complaint.empty());
  }
}

/// Machines with a directory each, and a server that they share.
class SharedTunedFaults : public TunedFaults {
 protected:
  ServiceOptions machine(const std::string& name, const RemoteCache& server) {
    ServiceOptions options;
    options.cache_directory = directory_.path() / name;
    options.remote_cache = server;
    options.log = [this](LogLevel, std::string_view text) { tell(text); };
    options.tuning = {.mode = TuningMode::use, .gpu = gpu().name};
    // Names the GPU, whose choices for this spec nobody asks for.
    choices::Document known(gpu());
    choices::Entry entry = tuned_entry();
    entry.spec.format.n = 1024;
    known.put(entry);
    fs::create_directory(options.cache_directory);
    fs::permissions(options.cache_directory, fs::perms::owner_all);
    must(choices::Database(options.cache_directory, {}).add(known));
    return options;
  }
  choices::Entry tuned_entry() const {
    choices::Entry entry;
    entry.spec = spec();
    entry.schedules = {must(schedules(spec()))[6]};
    entry.choice = {.schedule = 0, .partitions = 17, .microseconds = 2.5};
    entry.standard = {.schedule = 0, .partitions = 100, .microseconds = 5};
    entry.conditions.measured = "2026-01-02T03:04:05Z";
    return entry;
  }
  /// Tunes spec() on a machine of that name, as `tune` does, and sends what was found.
  void tune_and_send(const std::string& name, const std::string& url) {
    const fs::path folder = directory_.path() / name;
    fs::create_directory(folder);
    fs::permissions(folder, fs::perms::owner_all);
    choices::SharedChoices shared(must(cache::RemoteStore::open(patient(url))),
                                  [this](std::string_view text) { tell(text); });
    SimulatedWorkbench bench(SimulatedTimes{}, cost);
    const std::vector<KernelSpec> specs{spec()};
    const choices::Database own(folder, {});
    received_ = shared.exchange(own, gpu(), specs);
    begun_ = must(tuning::tune_missing(bench, "", own, specs, {.shared = &shared})).tuned;
  }
  CompileResult compile_on(const ServiceOptions& options) {
    return must(must(Service::open(options)).compile(spec()));
  }

  /// By any thread: uploads fail in one of their own.
  void tell(std::string_view text) {
    const std::lock_guard lock(told_mutex_);
    told_ += text;
    told_ += '\n';
  }
  /// What was told since the last time.
  std::string told() {
    const std::lock_guard lock(told_mutex_);
    return std::exchange(told_, {});
  }

  std::mutex told_mutex_;
  std::size_t received_ = 0;
  std::size_t begun_ = 0;
};

/// Keeps what is put.
class KeepingServer {
 public:
  HttpReply operator()(const HttpRequest& request) {
    const std::lock_guard lock(mutex_);
    if (request.method == "PUT") kept_[request.path] = request.body;
    const auto found = kept_.find(request.path);
    return found != kept_.end() ? HttpReply{.body = found->second} : HttpReply{.status = 404};
  }

 private:
  std::mutex mutex_;
  std::map<std::string, std::string> kept_;
};

TEST_F(SharedTunedFaults, Case27WhatOneMachineTunedServesAllOthers) {
  KeepingServer keeping;
  const FaultServer server([&](const HttpRequest& request) { return keeping(request); });
  tune_and_send("one", server.url());
  EXPECT_EQ(begun_, 1U);
  tune_and_send("two", server.url());
  EXPECT_EQ(begun_, 0U) << "measured again";
  EXPECT_EQ(received_, 1U);
  const CompileResult compiled = compile_on(machine("three", patient(server.url())));
  EXPECT_EQ(compiled.chosen_by, ChoiceOrigin::tuned);
  EXPECT_EQ(compiled.choice,
            choices::Database(directory_.path() / "one", {}).read_own(gpu()).find(spec())->chosen());
  ServiceOptions off = machine("four", patient(server.url()));
  off.tuning = {.mode = TuningMode::off};
  EXPECT_EQ(compile_on(off).chosen_by, ChoiceOrigin::model);
  EXPECT_EQ(told(), "");
}

TEST_F(SharedTunedFaults, Case27NginxHasTunedChoicesToo) {
  if (!NginxServer::installed()) GTEST_SKIP() << "nginx is not installed (Debian package nginx-light)";
  const NginxServer server;
  tune_and_send("one", server.url());
  EXPECT_TRUE(fs::exists(server.file(choices::key_of(gpu(), spec()).hex())));
  tune_and_send("two", server.url());
  EXPECT_EQ(received_, 1U);
  EXPECT_EQ(told(), "");
}

TEST_F(SharedTunedFaults, Case27DeadServerCostsOneWaitForChoicesAndKernelsTogether) {
  const RawServer server(nullptr);  // never answers
  const ServiceOptions options =
      machine("one", {.url = server.url(), .transfer_timeout = std::chrono::milliseconds(300)});
  Service service = must(Service::open(options));
  for (const std::int64_t m : {1, 2, 9, 17, 33}) EXPECT_TRUE(service.compile(spec(m)).has_value()) << m;
  EXPECT_LE(server.connections(), 1);
  EXPECT_THAT(told(), HasSubstr("did not answer"));
}

TEST_F(SharedTunedFaults, Case27DeadServerDoesNotKeepATunerFromTuning) {
  tune_and_send("one", "http://127.0.0.1:" + std::to_string(free_port()));
  EXPECT_EQ(begun_, 1U);
  EXPECT_NE(choices::Database(directory_.path() / "one", {}).read_own(gpu()).find(spec()), nullptr);
  EXPECT_THAT(told(), HasSubstr("not shared"));
}

TEST_F(SharedTunedFaults, Case27LiesOfAServerNeverBecomeChoices) {
  const cache::OtherEntry good = choices::to_entry(gpu(), tuned_entry());
  const std::vector<std::byte> bytes = must(cache::encode(good.entry));
  const std::string whole(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  std::string flipped = whole;
  flipped[whole.size() / 2] = static_cast<char>(flipped[whole.size() / 2] ^ 4);
  choices::Entry of_another = tuned_entry();
  of_another.spec.format.n = 8192;
  const std::vector<std::byte> wrong = must(cache::encode(choices::to_entry(gpu(), of_another).entry));
  const std::string another(reinterpret_cast<const char*>(wrong.data()), wrong.size());
  int machines = 0;
  for (const HttpReply& reply :
       {HttpReply{.status = 500}, HttpReply{.body = flipped}, HttpReply{.body = whole.substr(0, 40)},
        HttpReply{.body = whole.substr(0, whole.size() - 1)}, HttpReply{.body = "<html>"},
        HttpReply{.body = another}}) {
    const FaultServer server([&](const HttpRequest&) { return reply; });
    EXPECT_EQ(compile_on(machine("m" + std::to_string(machines++), patient(server.url()))).chosen_by,
              ChoiceOrigin::model);
    EXPECT_NE(told(), "") << reply.body.substr(0, 40);
  }
  const FaultServer honest([&](const HttpRequest& request) {
    const bool asked = request.path.ends_with(good.key.hex());
    return asked ? HttpReply{.body = whole} : HttpReply{.status = 404};
  });
  EXPECT_EQ(compile_on(machine("last", patient(honest.url()))).choice, tuned_entry().chosen());
}

TEST_F(SharedTunedFaults, Case27ReadOnlyServerIsSentNothing) {
  const FaultServer server([](const HttpRequest&) { return HttpReply{.status = 404}; });
  RemoteCache read_only = patient(server.url());
  read_only.read_only = true;
  choices::SharedChoices shared(must(cache::RemoteStore::open(read_only)), {});
  tune(1);
  const std::vector<KernelSpec> specs{spec()};
  shared.exchange(database(), gpu(), specs);
  ASSERT_EQ(server.requests().size(), 1U);
  EXPECT_EQ(server.requests().front().method, "GET");
}

TEST_F(SharedTunedFaults, Case27SixteenMachinesThatSendAtOnceLoseNothing) {
  KeepingServer keeping;
  const FaultServer server([&](const HttpRequest& request) { return keeping(request); });
  constexpr std::int64_t kMachines = 16;
  std::vector<std::jthread> threads;
  for (std::int64_t i = 0; i < kMachines; ++i) {
    threads.emplace_back([&, i] {
      choices::SharedChoices shared(must(cache::RemoteStore::open(patient(server.url()))), {});
      for (std::int64_t j = 0; j < 4; ++j) {
        choices::Entry entry = tuned_entry();
        entry.spec.format.n = 64 * (1 + i * 4 + j);
        entry.schedules = {must(schedules(entry.spec)).front()};
        shared.send(gpu(), entry);
      }
    });
  }
  threads.clear();
  choices::SharedChoices shared(must(cache::RemoteStore::open(patient(server.url()))), {});
  for (std::int64_t i = 1; i <= kMachines * 4; ++i) {
    KernelSpec sent = spec();
    sent.format.n = 64 * i;
    EXPECT_TRUE(shared.find(gpu(), sent).has_value()) << i;
  }
}

}  // namespace
}  // namespace lutsmith
