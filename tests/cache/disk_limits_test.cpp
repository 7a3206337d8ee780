#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <chrono>
#include <fstream>

#include "cache/stores/disk_pruning.h"
#include "cache/stores/disk_store.h"
#include "entries.h"
#include "temporary_directory.h"

namespace lutsmith::cache {
namespace {

namespace fs = std::filesystem;
using std::chrono::hours;
using std::chrono::system_clock;

void age(const fs::path& file, std::chrono::seconds age) {
  const auto then = system_clock::to_time_t(system_clock::now() - age);
  const timespec times[2] = {{.tv_sec = then, .tv_nsec = 0}, {.tv_sec = then, .tv_nsec = 0}};
  ASSERT_EQ(utimensat(AT_FDCWD, file.c_str(), times, AT_SYMLINK_NOFOLLOW), 0) << file;
}

class DiskLimitsTest : public testing::Test {
 protected:
  std::unique_ptr<DiskStore> open(const DiskOptions& options = {}) {
    Result<std::unique_ptr<DiskStore>> opened = DiskStore::open(root_, options);
    EXPECT_TRUE(opened.has_value());
    return std::move(*opened);
  }

  /// Entries "0", "1", ...; the first was used longest ago.
  std::unique_ptr<DiskStore> filled(int count) {
    auto store = open();
    for (int i = 0; i < count; ++i) {
      const Key key = key_of(std::to_string(i));
      EXPECT_TRUE(store->put(key, entry_of("e")).has_value());
      age(store->path_of(key), hours(100 - i));
    }
    store->flush(std::chrono::minutes(1));
    return store;
  }

  std::set<Key> keys(DiskStore& store) {
    std::set<Key> found;
    EXPECT_TRUE(
        store.scan([&](const StoredEntry& entry) { return found.insert(entry.key).second; }).has_value());
    return found;
  }

  TemporaryDirectory directory_;
  fs::path root_ = directory_.path() / "cache";
};

TEST_F(DiskLimitsTest, ProcessesThatMakeOneEntryEachKeepTheLimitsToo) {
  for (int i = 0; i < 6; ++i) {
    ASSERT_TRUE(open({.limits = {.entries = 2}})->put(key_of(std::to_string(i)), entry_of("e")).has_value());
  }
  EXPECT_LE(keys(*open()).size(), 2U);
}

TEST_F(DiskLimitsTest, DamagedEntriesAreKeptAWeekFromWhenTheyWereFound) {
  const auto store = filled(1);
  const fs::path file = store->path_of(key_of("0"));
  fs::resize_file(file, 10);
  age(file, hours(24 * 30));  // when it was last used
  ASSERT_EQ(store->get(key_of("0"))->state, LookupState::damaged);
  ASSERT_TRUE(prune_directory(root_, {}).has_value());
  EXPECT_TRUE(fs::exists(file.string() + ".bad"));
}

TEST_F(DiskLimitsTest, EntriesOfOneSecondGoInTheOrderOfTheirUse) {
  const auto store = filled(4);
  const auto now = system_clock::to_time_t(system_clock::now());
  for (int i = 0; i < 4; ++i) {
    const timespec time{.tv_sec = now, .tv_nsec = (i + 2) % 4 * 1000L};  // 2 and 3 were used first
    const timespec times[2] = {time, time};
    ASSERT_EQ(utimensat(AT_FDCWD, store->path_of(key_of(std::to_string(i))).c_str(), times, 0), 0);
  }
  ASSERT_TRUE(prune_directory(root_, {.limits = {.entries = 2}}).has_value());
  EXPECT_EQ(keys(*store), (std::set<Key>{key_of("0"), key_of("1")}));
}

TEST_F(DiskLimitsTest, EntriesUsedLongestAgoGoFirst) {
  const auto store = filled(5);
  ASSERT_EQ(store->get(key_of("0"))->state, LookupState::hit) << "used just now";
  const Result<Pruned> pruned = prune_directory(root_, {.limits = {.entries = 2}});
  ASSERT_TRUE(pruned.has_value());
  EXPECT_EQ(pruned->entries, 3U);
  EXPECT_EQ(pruned->entries_left, 2U);
  EXPECT_EQ(keys(*store), (std::set{key_of("0"), key_of("4")}));
}

TEST_F(DiskLimitsTest, BytesAreLimitedToo) {
  const auto store = filled(5);
  const std::uint64_t each = fs::file_size(store->path_of(key_of("0")));
  const Result<Pruned> pruned = prune_directory(root_, {.limits = {.bytes = 2 * each + each / 2}});
  ASSERT_TRUE(pruned.has_value());
  EXPECT_EQ(pruned->bytes, 3 * each);
  EXPECT_EQ(pruned->bytes_left, 2 * each);
  EXPECT_EQ(keys(*store), (std::set{key_of("3"), key_of("4")}));
}

TEST_F(DiskLimitsTest, NothingIsRemovedWithinTheLimits) {
  const auto store = filled(5);
  const Result<Pruned> pruned =
      prune_directory(root_, {.limits = {.entries = 5}, .down_to = CacheLimits{.entries = 1}});
  ASSERT_TRUE(pruned.has_value());
  EXPECT_EQ(pruned->entries, 0U);
  EXPECT_EQ(keys(*store).size(), 5U);
}

TEST_F(DiskLimitsTest, PuttingOverALimitPrunesInTheBackground) {
  const auto store = open({.limits = {.entries = 16}});
  for (int i = 0; i < 200; ++i) {
    ASSERT_TRUE(store->put(key_of(std::to_string(i)), entry_of("e")).has_value());
    ASSERT_TRUE(store->flush(std::chrono::minutes(1)));
    ASSERT_LE(keys(*store).size(), 16U);
  }
  EXPECT_GE(keys(*store).size(), 14U) << "pruned by an eighth, no more";
  EXPECT_GE(store->statistics().entries_removed, 184U);
}

TEST_F(DiskLimitsTest, UseIsStampedOnceAnHourAndNeverByReadersOnly) {
  const auto store = filled(1);
  const fs::path file = store->path_of(key_of("0"));
  const auto stamp = [&] { return fs::last_write_time(file); };
  const auto old = stamp();
  ASSERT_EQ(open({.access = Access::read_only})->get(key_of("0"))->state, LookupState::hit);
  EXPECT_EQ(stamp(), old);
  ASSERT_EQ(store->get(key_of("0"))->state, LookupState::hit);
  EXPECT_GT(stamp(), old + hours(99));
  age(file, std::chrono::minutes(50));
  const auto recent = stamp();
  ASSERT_EQ(store->get(key_of("0"))->state, LookupState::hit);
  EXPECT_EQ(stamp(), recent);
}

TEST_F(DiskLimitsTest, FilesLeftByDeadWritersAreSweptAndYoungOnesKept) {
  const auto store = filled(1);
  const fs::path entry = store->path_of(key_of("0"));
  const fs::path dead = entry.string() + ".tmp.1.0";
  const fs::path alive = entry.string() + ".tmp.1.1";
  const fs::path damaged = entry.string() + ".bad";
  for (const fs::path& file : {dead, alive, damaged}) std::ofstream(file) << "x";
  age(dead, hours(2));
  age(alive, std::chrono::minutes(30));
  age(damaged, hours(2));
  Result<Pruned> pruned = prune_directory(root_, {});
  ASSERT_TRUE(pruned.has_value());
  EXPECT_EQ(pruned->temporary, 1U);
  EXPECT_FALSE(fs::exists(dead));
  EXPECT_TRUE(fs::exists(alive) && fs::exists(damaged) && fs::exists(entry));
  age(damaged, hours(24 * 8));
  pruned = prune_directory(root_, {});
  ASSERT_TRUE(pruned.has_value());
  EXPECT_EQ(pruned->damaged, 1U);
  EXPECT_FALSE(fs::exists(damaged));
}

TEST_F(DiskLimitsTest, FilesThatTheCacheDidNotWriteAreNeverTouched) {
  const auto store = filled(1);
  const Key key = key_of("0");
  const fs::path shard = store->path_of(key).parent_path();
  const fs::path outside = directory_.path() / "outside";
  fs::create_directories(outside);
  fs::create_directories(root_ / "v1" / "notes");
  const Key other = key_of("elsewhere");
  const std::string misplaced = other.hex() + ".lutk";
  const std::set<fs::path> foreign{root_ / "readme",
                                   root_ / "v1" / "readme",
                                   root_ / "v1" / "notes" / misplaced,
                                   shard / "readme",
                                   shard / (key.hex() + ".lutk.old"),
                                   shard / (key.hex() + ".txt"),
                                   shard / "short.lutk",
                                   shard / ("../" + misplaced),
                                   outside / misplaced,
                                   shard / (key.hex() + "0.lutk")};
  for (const fs::path& file : foreign) {
    std::ofstream(file) << "mine";
    age(file, hours(24 * 365));
  }
  // A shard that is a link must not lead out of the directory.
  const std::string linked = other.hex().substr(0, 2);
  ASSERT_NE(linked, key.hex().substr(0, 2));
  fs::create_directory_symlink(outside, root_ / "v1" / linked);
  const Result<Pruned> pruned =
      prune_directory(root_, {.limits = {.bytes = 0, .entries = 0}, .temporary_age = {}, .damaged_age = {}});
  ASSERT_TRUE(pruned.has_value());
  EXPECT_EQ(pruned->entries, 1U);
  for (const fs::path& file : foreign) EXPECT_TRUE(fs::exists(file)) << file;
}

TEST_F(DiskLimitsTest, DirectoryThatIsMissingHasNothingToPrune) {
  const Result<Pruned> pruned = prune_directory(directory_.path() / "none", {});
  ASSERT_TRUE(pruned.has_value());
  EXPECT_EQ(pruned->entries_left, 0U);
  EXPECT_FALSE(fs::exists(directory_.path() / "none"));
}

TEST_F(DiskLimitsTest, DirectoryOpenedForReadingIsNeverChanged) {
  filled(2);
  const auto reader = open({.access = Access::read_only});
  fs::resize_file(reader->path_of(key_of("1")), 10);
  const std::set<std::string> before = files_under(root_);
  EXPECT_EQ(reader->get(key_of("0"))->tier, Tier::system);
  EXPECT_EQ(reader->get(key_of("1"))->state, LookupState::damaged);
  EXPECT_FALSE(reader->put(key_of("2"), entry_of("x")).has_value());
  EXPECT_FALSE(reader->remove(key_of("0")).value());
  EXPECT_EQ(reader->claim(key_of("0"), std::chrono::milliseconds(0)), nullptr);
  EXPECT_EQ(files_under(root_), before);
  EXPECT_TRUE(DiskStore::open(directory_.path() / "none", {.access = Access::read_only}).has_value());
  EXPECT_FALSE(fs::exists(directory_.path() / "none"));
}

}  // namespace
}  // namespace lutsmith::cache
