#include "runtime/kernel_provider.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <barrier>
#include <set>
#include <thread>

#include "cache/stores/tiered_store.h"
#include "provider_fixture.h"

namespace lutsmith {
namespace {

using testing::Contains;
using testing::HasSubstr;

TEST_F(KernelProviderTest, FirstRequestCompilesTheNextIsAnsweredFromMemory) {
  const auto kernels = provider();
  const Result<CompileResult> first = kernels->compile(request());
  ASSERT_TRUE(first.has_value());
  EXPECT_EQ(first->origin, Origin::compiled);
  EXPECT_EQ(warps_of(first->choice.schedule), 4) << "the first candidate";
  EXPECT_EQ(first->artifact->launch.threads, 128);
  EXPECT_EQ(first->artifact->registers, 99);
  EXPECT_EQ(first->artifact->key.size(), 64U);
  const Result<CompileResult> second = kernels->compile(request());
  ASSERT_TRUE(second.has_value());
  EXPECT_EQ(second->origin, Origin::memory);
  EXPECT_EQ(second->artifact, first->artifact);
  EXPECT_EQ(script_.compiles, 1);
  EXPECT_EQ(renders_, 1) << "a known request is not rendered again";
}

TEST_F(KernelProviderTest, AnotherProcessFindsTheWholeArtifactInTheStore) {
  script_.spilling = 2;  // all there are
  const Result<CompileResult> compiled = provider()->compile(request());
  const Result<CompileResult> restored = provider()->compile(request());
  ASSERT_TRUE(compiled.has_value() && restored.has_value());
  EXPECT_EQ(restored->origin, Origin::disk);
  EXPECT_EQ(restored->artifact->key, compiled->artifact->key);
  EXPECT_EQ(restored->artifact->cubin, compiled->artifact->cubin);
  EXPECT_EQ(restored->artifact->registers, 99);
  EXPECT_EQ(restored->artifact->static_shared_bytes, 16);
  EXPECT_EQ(restored->artifact->spill_bytes, 8);
  EXPECT_EQ(restored->artifact->kernel_name, "kern");
  EXPECT_EQ(restored->artifact->launch.threads, 128);
  EXPECT_EQ(script_.compiles, 2);
}

TEST_F(KernelProviderTest, ScheduleThatSpillsGivesWayToTheNextCandidate) {
  script_.spilling = 1;
  const Result<CompileResult> compiled = provider()->compile(request());
  ASSERT_TRUE(compiled.has_value());
  EXPECT_EQ(warps_of(compiled->choice.schedule), 8);
  EXPECT_EQ(compiled->artifact->spill_bytes, 0);
  EXPECT_EQ(script_.compiles, 2);
  const Result<CompileResult> restored = provider()->compile(request());
  ASSERT_TRUE(restored.has_value());
  EXPECT_EQ(warps_of(restored->choice.schedule), 8);
  EXPECT_EQ(restored->origin, Origin::disk) << "the choice costs no compile the second time";
  EXPECT_EQ(script_.compiles, 2);
}

TEST_F(KernelProviderTest, GivenScheduleIsKeptEvenIfItSpills) {
  script_.spilling = 1;
  Request given = request();
  given.choice = Schedule(FewTokensSchedule{.warps = 4});
  const Result<CompileResult> compiled = provider()->compile(given);
  ASSERT_TRUE(compiled.has_value());
  EXPECT_EQ(warps_of(compiled->choice.schedule), 4);
  EXPECT_EQ(compiled->artifact->spill_bytes, 8);
}

TEST_F(KernelProviderTest, WhereEveryCandidateSpillsTheFirstIsTaken) {
  script_.spilling = 2;
  const Result<CompileResult> compiled = provider()->compile(request());
  ASSERT_TRUE(compiled.has_value());
  EXPECT_EQ(warps_of(compiled->choice.schedule), 4);
  EXPECT_EQ(compiled->origin, Origin::compiled);
}

TEST_F(KernelProviderTest, SixteenThreadsOneCompile) {
  constexpr int kThreads = 16;
  const auto kernels = provider();
  // The one compile ends only when every thread has rendered and can do nothing more but wait for it.
  script_.during = [this] {
    while (renders_ < kThreads) std::this_thread::yield();
  };
  std::barrier start(kThreads);
  std::mutex mutex;
  std::multiset<Origin> origins;
  std::set<const Artifact*> artifacts;
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&] {
      start.arrive_and_wait();
      const Result<CompileResult> result = kernels->compile(request());
      ASSERT_TRUE(result.has_value());
      const std::lock_guard lock(mutex);
      origins.insert(result->origin);
      artifacts.insert(result->artifact.get());
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(script_.compiles, 1);
  EXPECT_EQ(artifacts.size(), 1U);
  EXPECT_EQ(origins.count(Origin::compiled), 1U);
  EXPECT_EQ(origins.count(Origin::memory), 15U);
}

TEST_F(KernelProviderTest, FailureIsToldToAllWhoWaitAndThenForgotten) {
  constexpr int kThreads = 8;
  const auto kernels = provider();
  script_.fails = true;
  script_.during = [this] {
    while (renders_ < kThreads) std::this_thread::yield();
  };
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&] {
      const Result<CompileResult> result = kernels->compile(request());
      ASSERT_FALSE(result.has_value());
      EXPECT_EQ(result.error().code, ErrorCode::compilation_failed);
      EXPECT_EQ(result.error().context, "its log");
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(stored(), 0);
  script_.fails = false;
  const Result<CompileResult> retried = kernels->compile(request());
  ASSERT_TRUE(retried.has_value());
  EXPECT_EQ(retried->origin, Origin::compiled);
}

TEST_F(KernelProviderTest, GivenScheduleAndTheModelsEqualChoiceShareOneKernel) {
  const auto kernels = provider();
  Request given = request();
  given.choice = Schedule(FewTokensSchedule{.warps = 4});
  ASSERT_TRUE(kernels->compile(request()).has_value());
  const Result<CompileResult> same = kernels->compile(given);
  ASSERT_TRUE(same.has_value());
  EXPECT_EQ(same->origin, Origin::memory);
  given.choice = Schedule(FewTokensSchedule{.warps = 8});
  const Result<CompileResult> other = kernels->compile(given);
  ASSERT_TRUE(other.has_value());
  EXPECT_EQ(other->origin, Origin::compiled);
  EXPECT_EQ(script_.compiles, 2);
}

TEST_F(KernelProviderTest, AnotherBuildOfTheCompilerDoesNotUseTheOldKernels) {
  ASSERT_TRUE(provider()->compile(request()).has_value());
  script_.identity = "stand-in 1 patched";
  const Result<CompileResult> result = provider()->compile(request());
  ASSERT_TRUE(result.has_value());
  EXPECT_EQ(result->origin, Origin::compiled);
  EXPECT_EQ(stored(), 2);
}

TEST_F(KernelProviderTest, BrokenStoreCostsCompilesAndOneWarning) {
  store_.fails = true;
  const auto kernels = provider();
  for (const std::int64_t n : {1000, 2000, 3000}) {
    const Result<CompileResult> result = kernels->compile(request(n));
    ASSERT_TRUE(result.has_value());
    EXPECT_EQ(result->origin, Origin::compiled);
  }
  EXPECT_EQ(kernels->compile(request(1000))->origin, Origin::memory);
  ASSERT_EQ(log_.size(), 1U);
  EXPECT_THAT(log_[0], HasSubstr("No space left on device"));
}

TEST_F(KernelProviderTest, DamagedEntryIsToldAndOverwritten) {
  const auto first = provider();
  store_.answer = cache::LookupState::damaged;
  ASSERT_TRUE(first->compile(request()).has_value());
  ASSERT_EQ(log_.size(), 1U);
  EXPECT_THAT(log_[0], HasSubstr("the stand-in entry is odd"));
  store_.answer = cache::LookupState::hit;
  EXPECT_EQ(provider()->compile(request())->origin, Origin::disk);
}

TEST_F(KernelProviderTest, EntryOfANewerVersionIsNotOverwritten) {
  store_.answer = cache::LookupState::newer;
  const Result<CompileResult> result = provider()->compile(request());
  ASSERT_TRUE(result.has_value());
  EXPECT_EQ(result->origin, Origin::compiled);
  EXPECT_EQ(stored(), 0);
}

TEST_F(KernelProviderTest, IntactEntryWithTheWrongContentsIsReplaced) {
  const Result<CompileResult> compiled = provider()->compile(request());
  ASSERT_TRUE(compiled.has_value());
  const cache::Key key = cache::Key::parse(compiled->artifact->key).value();
  const cache::Entry good = store_.entries.get(key)->entry;
  cache::Entry cut_off = good;
  cut_off.payload.resize(cut_off.payload.size() / 2);
  cache::Entry others = good;
  others.manifest.replace(others.manifest.find(key.hex()), 4, "beef");
  for (const cache::Entry& bad : {cut_off, others, cache::Entry{.manifest = "{}", .payload = good.payload}}) {
    ASSERT_TRUE(store_.entries.put(key, bad).has_value());
    log_.clear();
    const Result<CompileResult> again = provider()->compile(request());
    ASSERT_TRUE(again.has_value());
    EXPECT_EQ(again->origin, Origin::compiled);
    EXPECT_EQ(log_.size(), 1U);
    EXPECT_EQ(store_.entries.get(key)->entry, good);
  }
}

TEST_F(KernelProviderTest, ColdRequestAsksSystemDirectoriesAndServerOnceAndItsOwnDirectoryTwice) {
  SharedStore system;
  SharedStore remote;
  store_.has_locks = true;
  cache::TieredStore::Tiers tiers;
  tiers.local = std::make_unique<StandInStore>(store_);
  tiers.system.push_back(std::make_unique<StandInStore>(system, cache::Tier::system));
  tiers.remote = std::make_unique<StandInStore>(remote, cache::Tier::remote);
  const auto kernels =
      provider(std::make_unique<cache::TieredStore>(std::move(tiers), nullptr), CompilePolicy::when_needed);
  EXPECT_EQ(kernels->compile(request())->origin, Origin::compiled);
  EXPECT_EQ(store_.gets, 2) << "before and after the claim of the key";
  EXPECT_EQ(system.gets, 1);
  EXPECT_EQ(remote.gets, 1) << "a process of this host that made it meanwhile left it nearer";
}

TEST_F(KernelProviderTest, UnusableEntryCostsNoSecondLookUpOfTheTiers) {
  const Result<CompileResult> compiled = provider()->compile(request());
  const cache::Key key = cache::Key::parse(compiled->artifact->key).value();
  cache::Entry cut_off = store_.entries.get(key)->entry;
  cut_off.payload.resize(cut_off.payload.size() / 2);
  ASSERT_TRUE(store_.entries.put(key, cut_off).has_value());
  store_.gets = 0;
  EXPECT_EQ(provider()->compile(request())->origin, Origin::compiled);
  EXPECT_EQ(store_.gets, 1);
}

TEST_F(KernelProviderTest, ForgottenKernelIsMadeAnew) {
  const auto kernels = provider();
  const Result<CompileResult> first = kernels->compile(request());
  ASSERT_TRUE(first.has_value());
  kernels->forget(request(), first->artifact->key);
  EXPECT_EQ(stored(), 0);
  const Result<CompileResult> second = kernels->compile(request());
  ASSERT_TRUE(second.has_value());
  EXPECT_EQ(second->origin, Origin::compiled);
}

TEST_F(KernelProviderTest, BadSpecIsRefusedBeforeAnythingIsRendered) {
  Request bad = request();
  bad.spec.format.bits = 9;
  const Result<CompileResult> result = provider()->compile(bad);
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().code, ErrorCode::invalid_argument);
  EXPECT_THAT(result.error().message, HasSubstr("bits"));
  EXPECT_EQ(renders_, 0);
}

TEST_F(KernelProviderTest, CompilerThatThrowsIsAnErrorNotACrash) {
  script_.during = [] { throw std::bad_alloc(); };
  const auto kernels = provider(/*with_store=*/false);
  const Result<CompileResult> result = kernels->compile(request());
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().code, ErrorCode::out_of_memory);
  script_.during = [] {};
  EXPECT_TRUE(kernels->compile(request()).has_value());
}

TEST_F(KernelProviderTest, WithoutCompilingAColdRequestFailsAtOnceAndNamesTheCommandThatWarmsIt) {
  const auto strict = provider(/*with_store=*/true, CompilePolicy::never);
  const Result<CompileResult> cold = strict->compile(request());
  ASSERT_FALSE(cold.has_value());
  EXPECT_EQ(cold.error().code, ErrorCode::not_found);
  EXPECT_THAT(cold.error().message,
              HasSubstr("lutsmith compile --bits 4 --group 128 --n 4096 --k 4096 --m 1 --dtype f16 "
                        "--table scalar --target sm_90a"));
  EXPECT_EQ(script_.compiles, 0);
  ASSERT_TRUE(provider()->compile(request()).has_value());  // another process warms it
  const Result<CompileResult> warm = strict->compile(request());
  ASSERT_TRUE(warm.has_value());
  EXPECT_EQ(warm->origin, Origin::disk);
}

const choices::Gpu kTunedGpu{.name = "tuned", .multiprocessors = 132, .target = {}};
const choices::Gpu kOtherGpu{.name = "other", .multiprocessors = 132, .target = {}};

TEST_F(KernelProviderTest, TunedChoiceComesBeforeTheModels) {
  const auto provider = this->provider();
  const auto compiled = provider->compile(request(), &kTunedGpu);
  ASSERT_TRUE(compiled.has_value());
  EXPECT_EQ(warps_of(compiled->choice.schedule), 16);
  EXPECT_EQ(compiled->choice.partitions, 7);
  EXPECT_EQ(compiled->chosen_by, ChoiceOrigin::tuned);
  const auto again = provider->compile(request(), &kTunedGpu);
  EXPECT_EQ(again->choice, compiled->choice);
  EXPECT_EQ(again->chosen_by, ChoiceOrigin::tuned);
  EXPECT_EQ(again->origin, Origin::memory);
  EXPECT_EQ(script_.compiles, 1);
}

TEST_F(KernelProviderTest, GpusOfDifferentModelsGetTheirOwnChoices) {
  const auto provider = this->provider();
  for (int round = 0; round < 2; ++round) {
    EXPECT_EQ(warps_of(provider->compile(request(), &kTunedGpu)->choice.schedule), 16);
    EXPECT_EQ(warps_of(provider->compile(request(), &kOtherGpu)->choice.schedule), 4);
    EXPECT_EQ(warps_of(provider->compile(request())->choice.schedule), 4);
  }
  EXPECT_EQ(script_.compiles, 2);
}

TEST_F(KernelProviderTest, GivenChoiceComesBeforeTheTunedOne) {
  Request given = request();
  given.choice = {FewTokensSchedule{.warps = 8}, 3};
  const auto compiled = provider()->compile(given, &kTunedGpu);
  EXPECT_EQ(compiled->choice, *given.choice);
  EXPECT_EQ(compiled->chosen_by, ChoiceOrigin::given);
}

TEST_F(KernelProviderTest, TunedChoiceThatIsNotWarmedGivesWayWhereCompilingIsOff) {
  ASSERT_TRUE(provider()->compile(request()).has_value());  // the model's
  const auto strict = provider(true, CompilePolicy::never);
  const auto found = strict->compile(request(), &kTunedGpu);
  ASSERT_TRUE(found.has_value()) << found.error().message;
  EXPECT_EQ(warps_of(found->choice.schedule), 4);
  EXPECT_EQ(found->chosen_by, ChoiceOrigin::model);
  EXPECT_EQ(found->origin, Origin::disk);
  EXPECT_THAT(log_, Contains(HasSubstr("the tuned choice")));
}

TEST_F(KernelProviderTest, TunedChoiceThatSpillsGivesWayToTheModels) {
  script_.spilling = 1;
  const auto compiled = provider()->compile(request(), &kTunedGpu);
  EXPECT_EQ(warps_of(compiled->choice.schedule), 4);
}

TEST_F(KernelProviderTest, TunedChoiceThatDoesNotCompileGivesWayToTheModels) {
  script_.failing = 1;
  const auto compiled = provider()->compile(request(), &kTunedGpu);
  ASSERT_TRUE(compiled.has_value());
  EXPECT_EQ(warps_of(compiled->choice.schedule), 4);
  EXPECT_THAT(log_, Contains(HasSubstr("the tuned choice")));
}

}  // namespace
}  // namespace lutsmith
