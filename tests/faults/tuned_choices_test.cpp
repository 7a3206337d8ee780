#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "choices/database.h"
#include "choices/source.h"
#include "lutsmith/codegen.h"
#include "must.h"
#include "processes.h"
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

}  // namespace
}  // namespace lutsmith
