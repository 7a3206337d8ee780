#include "cache/stores/tiered_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>

#include "cache/stores/memory_store.h"
#include "entries.h"

namespace lutsmith::cache {
namespace {

using std::chrono::minutes;
using testing::HasSubstr;

/// A tier whose contents and faults the test sees and steers.
struct Tray {
  MemoryStore entries;
  std::atomic<bool> fails{false};
  std::atomic<LookupState> answer{LookupState::hit};
  std::atomic<int> gets{0};
  std::atomic<int> puts{0};
  std::atomic<bool> cancelled{false};
  std::function<void()> during_put = [] {};
};

class StandInTier final : public Store {
 public:
  StandInTier(Tray& tray, Tier tier) : tray_(tray), tier_(tier) {}
  Result<Lookup> get(const Key& key) override {
    ++tray_.gets;
    if (tray_.fails) return std::unexpected(broken());
    if (tray_.answer != LookupState::hit) {
      Lookup odd;
      odd.state = tray_.answer;
      odd.note = "odd";
      return odd;
    }
    Result<Lookup> found = tray_.entries.get(key);
    found->tier = tier_;
    return found;
  }
  Result<void> put(const Key& key, const Entry& entry) override {
    ++tray_.puts;
    tray_.during_put();
    if (tray_.fails) return std::unexpected(broken());
    return tray_.entries.put(key, entry);
  }
  Result<bool> remove(const Key& key) override { return tray_.entries.remove(key); }
  Result<void> scan(const std::function<bool(const StoredEntry&)>& visit) override {
    return tray_.entries.scan(visit);
  }
  void cancel() override { tray_.cancelled = true; }

 private:
  static Error broken() { return {ErrorCode::io_error, "the stand-in is broken", ""}; }
  Tray& tray_;
  Tier tier_;
};

class TieredStoreTest : public testing::Test {
 protected:
  std::unique_ptr<TieredStore> open() {
    TieredStore::Tiers tiers;
    tiers.local = std::make_unique<StandInTier>(local_, Tier::local);
    tiers.system.push_back(std::make_unique<StandInTier>(system_[0], Tier::system));
    tiers.system.push_back(std::make_unique<StandInTier>(system_[1], Tier::system));
    tiers.remote = std::make_unique<StandInTier>(remote_, Tier::remote);
    return std::make_unique<TieredStore>(std::move(tiers), [this](std::string_view text) {
      const std::lock_guard lock(mutex_);
      warnings_.emplace_back(text);
    });
  }

  Tray local_;
  Tray system_[2];
  Tray remote_;
  std::mutex mutex_;
  std::vector<std::string> warnings_;
  Key key_ = key_of("a");
};

TEST_F(TieredStoreTest, NearestHitWinsAndFartherTiersAreNotAsked) {
  ASSERT_TRUE(system_[0].entries.put(key_, entry_of("near")).has_value());
  ASSERT_TRUE(system_[1].entries.put(key_, entry_of("far")).has_value());
  const auto store = open();
  const Result<Lookup> found = store->get(key_);
  ASSERT_TRUE(found.has_value());
  EXPECT_EQ(found->entry, entry_of("near"));
  EXPECT_EQ(found->tier, Tier::system);
  EXPECT_EQ(system_[1].gets + remote_.gets, 0);
  EXPECT_EQ(local_.puts, 0) << "a directory on this machine is near enough";
  EXPECT_EQ(store->statistics().system_hits, 1U);
}

TEST_F(TieredStoreTest, HitOfTheServerIsKeptInTheUsersDirectory) {
  ASSERT_TRUE(remote_.entries.put(key_, entry_of("shared")).has_value());
  const auto store = open();
  EXPECT_EQ(store->get(key_)->tier, Tier::remote);
  EXPECT_EQ(store->get(key_)->tier, Tier::local);
  EXPECT_EQ(remote_.gets, 1);
  EXPECT_EQ(remote_.puts, 0) << "what came from there is there";
  EXPECT_EQ(store->statistics().remote_hits, 1U);
  EXPECT_EQ(store->statistics().local_hits, 1U);
}

TEST_F(TieredStoreTest, PutDoesNotWaitForTheServer) {
  std::promise<void> go_on;
  remote_.during_put = [&] { go_on.get_future().wait(); };
  const auto store = open();
  ASSERT_TRUE(store->put(key_, entry_of("new")).has_value());  // returns though the server does not
  EXPECT_EQ(local_.entries.get(key_)->entry, entry_of("new"));
  EXPECT_FALSE(store->flush(std::chrono::milliseconds(1)));
  go_on.set_value();
  EXPECT_TRUE(store->flush(minutes(1)));
  EXPECT_EQ(remote_.entries.get(key_)->entry, entry_of("new"));
}

TEST_F(TieredStoreTest, DestructionCancelsTheServersCalls) {
  open().reset();
  EXPECT_TRUE(remote_.cancelled);
}

TEST_F(TieredStoreTest, BrokenTiersCostTheirEntriesAndOneWarningEach) {
  local_.fails = system_[0].fails = remote_.fails = true;
  ASSERT_TRUE(system_[1].entries.put(key_, entry_of("good")).has_value());
  const auto store = open();
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(store->get(key_)->entry, entry_of("good"));
    EXPECT_EQ(store->get(key_of("b"))->state, LookupState::miss);
    EXPECT_TRUE(store->put(key_of("b"), entry_of("new")).has_value());
    EXPECT_FALSE(store->flush(minutes(1))) << "the server has not got it";
  }
  EXPECT_THAT(warnings_, testing::SizeIs(3));
  EXPECT_THAT(warnings_, testing::Each(HasSubstr("the stand-in is broken")));
}

TEST_F(TieredStoreTest, NewerEntryElsewhereDoesNotKeepThisVersionFromItsOwnDirectory) {
  remote_.answer = LookupState::newer;
  EXPECT_EQ(open()->get(key_)->state, LookupState::miss);
}

/// Finds entries whose manifest is "good" usable.
Verdict good_alone(const Entry& entry) {
  return entry == entry_of("good") ? Verdict::usable : Verdict::unusable;
}

TEST_F(TieredStoreTest, UnusableEntryOfTheServerIsNeitherKeptNorTakenAgainAndOthersAreStillAsked) {
  ASSERT_TRUE(remote_.entries.put(key_, entry_of("wrong")).has_value());
  const auto store = open();
  EXPECT_EQ(store->get_usable(key_, Reach::everywhere, good_alone)->state, LookupState::miss);
  EXPECT_EQ(local_.puts, 0) << "what cannot be used is not kept";
  EXPECT_EQ(store->get(key_)->state, LookupState::miss);
  ASSERT_TRUE(system_[0].entries.put(key_, entry_of("good")).has_value());
  EXPECT_EQ(store->get(key_)->entry, entry_of("good"));
}

TEST_F(TieredStoreTest, OneCallGoesOnFromTierToTierUntilAnEntryIsUsable) {
  ASSERT_TRUE(local_.entries.put(key_, entry_of("wrong")).has_value());
  ASSERT_TRUE(system_[0].entries.put(key_, entry_of("wrong too")).has_value());
  ASSERT_TRUE(system_[1].entries.put(key_, entry_of("good")).has_value());
  const auto store = open();
  const Result<Lookup> found = store->get_usable(key_, Reach::everywhere, good_alone);
  EXPECT_EQ(found->entry, entry_of("good"));
  EXPECT_EQ(found->tier, Tier::system);
  EXPECT_EQ(local_.entries.get(key_)->state, LookupState::miss) << "its own directory is cleaned";
  EXPECT_EQ(system_[0].entries.get(key_)->state, LookupState::hit) << "others may need it";
  EXPECT_EQ(local_.gets + system_[0].gets + system_[1].gets, 3);
  EXPECT_EQ(remote_.gets, 0);
}

TEST_F(TieredStoreTest, EntryThatANewerVersionFilledIsLeftAloneInTheUsersDirectory) {
  ASSERT_TRUE(local_.entries.put(key_, entry_of("of the future")).has_value());
  const auto store = open();
  const auto newer = [](const Entry&) { return Verdict::newer; };
  EXPECT_EQ(store->get_usable(key_, Reach::everywhere, newer)->state, LookupState::newer);
  EXPECT_EQ(local_.entries.get(key_)->entry, entry_of("of the future"));
}

TEST_F(TieredStoreTest, LocalReachAsksNeitherSystemDirectoriesNorTheServer) {
  EXPECT_EQ(open()->get_usable(key_, Reach::local, good_alone)->state, LookupState::miss);
  EXPECT_EQ(local_.gets, 1);
  EXPECT_EQ(system_[0].gets + system_[1].gets + remote_.gets, 0);
}

TEST_F(TieredStoreTest, DamagedEntryIsMadeGoodFromAFartherTier) {
  local_.answer = LookupState::damaged;
  ASSERT_TRUE(remote_.entries.put(key_, entry_of("good")).has_value());
  const auto store = open();
  EXPECT_EQ(store->get(key_)->entry, entry_of("good"));
  EXPECT_EQ(local_.entries.get(key_)->entry, entry_of("good"));
  EXPECT_EQ(store->statistics().damaged, 1U);
}

TEST_F(TieredStoreTest, DamageIsToldWhereNobodyHasTheEntry) {
  local_.answer = LookupState::damaged;
  EXPECT_EQ(open()->get(key_)->state, LookupState::damaged);
  EXPECT_EQ(open()->get(key_)->note, "odd");
}

TEST_F(TieredStoreTest, NewerEntryIsNotOverwrittenByTheServers) {
  local_.answer = LookupState::newer;
  ASSERT_TRUE(remote_.entries.put(key_, entry_of("good")).has_value());
  const auto store = open();
  EXPECT_EQ(store->get(key_)->entry, entry_of("good"));
  EXPECT_EQ(local_.puts, 0);
  EXPECT_EQ(store->get(key_of("b"))->state, LookupState::newer);
}

TEST_F(TieredStoreTest, RemovedEntryIsNotTakenFromFartherTiers) {
  for (Tray* tray : {&local_, &system_[0], &remote_}) {
    ASSERT_TRUE(tray->entries.put(key_, entry_of("refused by the driver")).has_value());
  }
  const auto store = open();
  EXPECT_TRUE(store->remove(key_).value());
  EXPECT_EQ(store->get(key_)->state, LookupState::miss);
  EXPECT_EQ(system_[0].entries.get(key_)->state, LookupState::hit) << "others may need it";
  ASSERT_TRUE(store->put(key_, entry_of("made anew")).has_value());
  EXPECT_EQ(store->get(key_)->entry, entry_of("made anew"));
}

TEST_F(TieredStoreTest, WithoutAnyTierEverythingIsAMiss) {
  TieredStore none({}, {});
  EXPECT_TRUE(none.put(key_, entry_of("x")).has_value());
  EXPECT_EQ(none.get(key_)->state, LookupState::miss);
  EXPECT_FALSE(none.remove(key_).value());
  EXPECT_EQ(none.claim(key_, minutes(1)), nullptr);
  EXPECT_TRUE(none.flush(minutes(1)));
}

}  // namespace
}  // namespace lutsmith::cache
