#include "cache/stores/key_lock.h"

#include <fcntl.h>
#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <string>
#include <thread>

#include "cache/stores/disk_store.h"
#include "processes.h"
#include "temporary_directory.h"

namespace lutsmith::cache {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kAtOnce{0};
constexpr milliseconds kAsLongAsItTakes{60'000};

Key key_number(int number) {
  return Key::of({.source = std::to_string(number), .options = {}, .compiler = {}, .target = {}});
}

class KeyLockTest : public testing::Test {
 protected:
  std::unique_ptr<Claim> claim(int key = 1, milliseconds longest = kAtOnce) const {
    return DiskStore::open(directory_.path()).value()->claim(key_number(key), longest);
  }
  std::filesystem::path lock_file() const { return directory_.path() / "v1" / KeyLock::kFileName; }

  /// A process that takes the claim, tells, and keeps it until it is killed.
  void start_holder() {
    processes_.start([this] {
      const auto held = claim();
      holds_.give();
      pause();
      return held == nullptr ? 1 : 0;
    });
    holds_.wait();
  }

  TemporaryDirectory directory_;
  Signal holds_;
  Processes processes_;
};

TEST_F(KeyLockTest, OneHolderAtATimeAndTheNextAfterIt) {
  auto first = claim();
  ASSERT_NE(first, nullptr);
  EXPECT_EQ(claim(), nullptr);
  EXPECT_NE(claim(2), nullptr) << "another key has a lock of its own";
  first.reset();
  EXPECT_NE(claim(), nullptr);
}

TEST_F(KeyLockTest, AnotherProcessHoldsIt) {
  start_holder();
  EXPECT_EQ(claim(), nullptr);
  EXPECT_NE(claim(2), nullptr);
}

TEST_F(KeyLockTest, HolderThatIsKilledFreesItAndAWaiterGoesOn) {
  start_holder();
  processes_.start([this] { return claim(1, kAsLongAsItTakes) == nullptr ? 1 : 0; });  // waits
  EXPECT_EQ(claim(), nullptr);
  processes_.kill_first();
  EXPECT_EQ(processes_.successes(), 1);
}

TEST_F(KeyLockTest, HolderThatHangsHoldsUpAWaiterNoLongerThanItWants) {
  start_holder();
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(claim(1, milliseconds{50}), nullptr);
  EXPECT_GE(std::chrono::steady_clock::now() - start, milliseconds{50});
}

TEST_F(KeyLockTest, ReleaseCountsThoughAForkedChildStillHasTheFileOpen) {
  auto held = claim();
  ASSERT_NE(held, nullptr);
  processes_.start([this] {
    holds_.give();
    pause();
    return 0;
  });
  holds_.wait();
  held.reset();
  EXPECT_NE(claim(), nullptr);
}

TEST_F(KeyLockTest, LockFileThatSomebodyDeletesIsMadeAnewAndLocked) {
  const auto stale = claim();
  ASSERT_NE(stale, nullptr);
  ASSERT_TRUE(std::filesystem::remove(lock_file()));
  const auto held = claim();
  ASSERT_NE(held, nullptr) << "of the new file";
  EXPECT_EQ(claim(), nullptr);
}

TEST_F(KeyLockTest, LockFileDeletedWhileSomebodyWaitsIsNotTheOneHeGets) {
  start_holder();
  Signal waits;
  processes_.start([&] {
    waits.give();
    // Gets the lock of the deleted file when its holder dies, sees that, and takes the new file's.
    const auto held = claim(1, kAsLongAsItTakes);
    return held != nullptr && claim() == nullptr ? 0 : 1;
  });
  waits.wait();
  std::this_thread::sleep_for(milliseconds{20});  // it may open the file now; either way it must end well
  std::filesystem::remove(lock_file());
  processes_.kill_first();
  EXPECT_EQ(processes_.successes(), 1);
}

TEST_F(KeyLockTest, WhatCannotBeLockedGivesNoClaimAndNoError) {
  std::filesystem::create_directories(lock_file());  // no file
  EXPECT_EQ(claim(1, kAsLongAsItTakes), nullptr);
  std::filesystem::remove(lock_file());
  std::filesystem::create_symlink("elsewhere", lock_file());
  EXPECT_EQ(claim(1, kAsLongAsItTakes), nullptr);
}

TEST_F(KeyLockTest, ThousandClaimsLeaveOneEmptyFile) {
  for (int i = 0; i < 1000; ++i) EXPECT_NE(claim(i), nullptr);
  EXPECT_TRUE(std::filesystem::is_empty(lock_file()));
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(lock_file().parent_path()),
                          std::filesystem::directory_iterator()),
            1);
}

}  // namespace
}  // namespace lutsmith::cache
