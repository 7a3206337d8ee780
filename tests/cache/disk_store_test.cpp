#include "cache/stores/disk_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <llvm/ADT/ArrayRef.h>
#include <llvm/Support/SHA256.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <csignal>
#include <fstream>
#include <set>
#include <string>
#include <thread>

#include "entries.h"
#include "temporary_directory.h"

namespace lutsmith::cache {
namespace {

namespace fs = std::filesystem;

class DiskStoreTest : public testing::Test {
 protected:
  DiskStoreTest() : root_(directory_.path() / "cache") {
    Result<std::unique_ptr<DiskStore>> opened = DiskStore::open(root_);
    EXPECT_TRUE(opened.has_value());
    store_ = std::move(*opened);
  }

  fs::path file_of(const Key& key) const {
    return root_ / "v1" / key.hex().substr(0, 2) / (key.hex() + ".lutk");
  }

  TemporaryDirectory directory_;
  fs::path root_;
  std::unique_ptr<DiskStore> store_;
};

TEST_F(DiskStoreTest, RootIsCreatedForItsUserAlone) {
  struct stat status{};
  ASSERT_EQ(stat(root_.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777U, 0700U);
}

TEST_F(DiskStoreTest, PutThenGetGivesTheEntryBackAlsoToAnotherStore) {
  ASSERT_TRUE(store_->put(key_of("a"), entry_of("one")).has_value());
  const Result<Lookup> own = store_->get(key_of("a"));
  ASSERT_TRUE(own.has_value());
  EXPECT_EQ(own->state, LookupState::hit);
  EXPECT_EQ(own->entry, entry_of("one"));
  const Result<Lookup> other = DiskStore::open(root_).value()->get(key_of("a"));
  ASSERT_TRUE(other.has_value());
  EXPECT_EQ(other->entry, entry_of("one"));
  EXPECT_EQ(store_->get(key_of("b"))->state, LookupState::miss);
  EXPECT_EQ(files_under(root_), std::set<std::string>{key_of("a").hex() + ".lutk"})
      << "no temporary file stays";
}

TEST_F(DiskStoreTest, DamagedEntryIsPutAsideAndCanBeWrittenAnew) {
  const Key key = key_of("a");
  ASSERT_TRUE(store_->put(key, entry_of("one")).has_value());
  fs::resize_file(file_of(key), fs::file_size(file_of(key)) / 2);
  const Result<Lookup> damaged = store_->get(key);
  ASSERT_TRUE(damaged.has_value());
  EXPECT_EQ(damaged->state, LookupState::damaged);
  EXPECT_THAT(damaged->note, testing::HasSubstr(file_of(key).string()));
  EXPECT_EQ(store_->get(key)->state, LookupState::miss);
  ASSERT_TRUE(store_->put(key, entry_of("two")).has_value());
  EXPECT_EQ(store_->get(key)->entry, entry_of("two"));
}

TEST_F(DiskStoreTest, EmptyFileLinkPipeAndFolderInPlaceOfAnEntryAreDamage) {
  const Key key = key_of("a");
  ASSERT_TRUE(store_->put(key, entry_of("one")).has_value());
  const auto expect_damage = [&](const char* what) {
    const Result<Lookup> lookup = store_->get(key);
    ASSERT_TRUE(lookup.has_value()) << what;
    EXPECT_EQ(lookup->state, LookupState::damaged) << what;
    EXPECT_FALSE(fs::exists(fs::symlink_status(file_of(key)))) << what;
    fs::remove_all(file_of(key).string() + ".bad");
  };
  fs::resize_file(file_of(key), 0);
  expect_damage("empty file");
  std::ofstream(directory_.path() / "elsewhere") << "x";
  fs::create_symlink(directory_.path() / "elsewhere", file_of(key));
  expect_damage("symbolic link");
  ASSERT_EQ(mkfifo(file_of(key).c_str(), 0600), 0);
  expect_damage("pipe");
  fs::create_directory(file_of(key));
  expect_damage("folder");
}

TEST_F(DiskStoreTest, EntryOfANewerVersionStaysWhereItIs) {
  const Key key = key_of("a");
  ASSERT_TRUE(store_->put(key, entry_of("one")).has_value());
  // A later version, made by the rule that holds for all versions.
  std::string bytes("LUTSMITH\3\0\0\0 what a later version keeps after its number, long enough", 69);
  const auto digest =
      llvm::SHA256::hash(llvm::ArrayRef(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()));
  bytes.append(reinterpret_cast<const char*>(digest.data()), digest.size());
  std::ofstream(file_of(key), std::ios::binary) << bytes;
  const Result<Lookup> lookup = store_->get(key);
  ASSERT_TRUE(lookup.has_value());
  EXPECT_EQ(lookup->state, LookupState::newer);
  EXPECT_EQ(fs::file_size(file_of(key)), bytes.size());
}

TEST_F(DiskStoreTest, FailedWriteReportsAndLeavesNothingBehind) {
  ASSERT_TRUE(store_->put(key_of("a"), entry_of("old")).has_value());
  const std::set<std::string> before = files_under(root_);
  // A limit on file sizes stands in for a full disk: it binds the superuser too.
  struct rlimit saved{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &saved), 0);
  const auto previous = std::signal(SIGXFSZ, SIG_IGN);
  struct rlimit small = saved;
  small.rlim_cur = 40;
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  const Result<void> put = store_->put(key_of("a"), entry_of("new"));
  const Result<void> other = store_->put(key_of("b"), entry_of("new"));
  setrlimit(RLIMIT_FSIZE, &saved);
  std::signal(SIGXFSZ, previous);
  ASSERT_FALSE(put.has_value());
  EXPECT_EQ(put.error().code, ErrorCode::io_error);
  EXPECT_THAT(put.error().message, testing::HasSubstr(file_of(key_of("a")).string()));
  EXPECT_FALSE(other.has_value());
  EXPECT_EQ(files_under(root_), before);
  EXPECT_EQ(store_->get(key_of("a"))->entry, entry_of("old"));
}

TEST_F(DiskStoreTest, RootDeletedUnderTheStoreCostsItsEntriesOnly) {
  ASSERT_TRUE(store_->put(key_of("a"), entry_of("one")).has_value());
  fs::remove_all(root_);
  EXPECT_EQ(store_->get(key_of("a"))->state, LookupState::miss);
  EXPECT_FALSE(store_->remove(key_of("a")).value());
  EXPECT_FALSE(fs::exists(root_)) << "looking must not create";
  ASSERT_TRUE(store_->put(key_of("a"), entry_of("two")).has_value());
  EXPECT_EQ(store_->get(key_of("a"))->entry, entry_of("two"));
}

TEST_F(DiskStoreTest, RootReplacedByALinkIsRefusedLater) {
  ASSERT_TRUE(store_->put(key_of("a"), entry_of("one")).has_value());
  fs::rename(root_, directory_.path() / "moved");
  fs::create_symlink(directory_.path() / "moved", root_);
  EXPECT_FALSE(store_->get(key_of("a")).has_value());
  EXPECT_FALSE(store_->put(key_of("a"), entry_of("two")).has_value());
}

TEST_F(DiskStoreTest, ScanFindsEntriesAndPassesOverEverythingElse) {
  ASSERT_TRUE(store_->put(key_of("a"), entry_of("one")).has_value());
  ASSERT_TRUE(store_->put(key_of("b"), entry_of("two")).has_value());
  std::ofstream(root_ / "notes.txt") << "mine";
  std::ofstream(file_of(key_of("a")).parent_path() / "short.lutk") << "mine";
  std::ofstream(file_of(key_of("a")).string() + ".tmp.1.2") << "half";
  std::set<Key> found;
  ASSERT_TRUE(store_
                  ->scan([&](const StoredEntry& entry) {
                    EXPECT_EQ(entry.bytes, fs::file_size(file_of(entry.key)));
                    found.insert(entry.key);
                    return true;
                  })
                  .has_value());
  EXPECT_EQ(found, (std::set<Key>{key_of("a"), key_of("b")}));
  EXPECT_TRUE(store_->remove(key_of("a")).value());
  EXPECT_EQ(store_->get(key_of("a"))->state, LookupState::miss);
}

TEST_F(DiskStoreTest, ReadersAndWritersOfOneKeyNeverSeeHalfAnEntry) {
  constexpr int kRounds = 50;
  const Key key = key_of("a");
  std::vector<std::thread> threads;
  for (int writer = 0; writer < 4; ++writer) {
    threads.emplace_back([&, writer] {
      for (int round = 0; round < kRounds; ++round) {
        EXPECT_TRUE(store_->put(key, entry_of(std::to_string(writer))).has_value());
      }
    });
  }
  for (int reader = 0; reader < 4; ++reader) {
    threads.emplace_back([&] {
      for (int round = 0; round < kRounds; ++round) {
        const Result<Lookup> lookup = store_->get(key);
        ASSERT_TRUE(lookup.has_value());
        EXPECT_NE(lookup->state, LookupState::damaged);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(store_->get(key)->state, LookupState::hit);
  EXPECT_EQ(files_under(root_).size(), 1U);
}

TEST(DiskStoreRoot, SymbolicLinkIsRefusedAlsoWithATrailingSlash) {
  const TemporaryDirectory directory;
  fs::create_directory(directory.path() / "real");
  fs::permissions(directory.path() / "real", fs::perms::owner_all);
  fs::create_symlink("real", directory.path() / "link");
  for (const char* name : {"link", "link/", "link/."}) {
    const auto opened = DiskStore::open(directory.path() / name);
    ASSERT_FALSE(opened.has_value()) << name;
    EXPECT_THAT(opened.error().message, testing::HasSubstr("symbolic link"));
  }
}

TEST(DiskStoreRoot, DirectoryThatOthersMayWriteIsRefused) {
  const TemporaryDirectory directory;
  fs::permissions(directory.path(), fs::perms::all);
  const auto opened = DiskStore::open(directory.path());
  ASSERT_FALSE(opened.has_value());
  EXPECT_THAT(opened.error().message, testing::HasSubstr("chmod 700"));
}

TEST(DiskStoreRoot, PlaceThatCannotExistIsAnErrorThatNamesIt) {
  const TemporaryDirectory directory;
  std::ofstream(directory.path() / "file") << "x";
  for (const fs::path& root :
       {directory.path() / "file", directory.path() / "file" / "cache", fs::path("/proc/lutsmith")}) {
    const auto opened = DiskStore::open(root);
    ASSERT_FALSE(opened.has_value()) << root;
    EXPECT_EQ(opened.error().code, ErrorCode::io_error);
    EXPECT_THAT(opened.error().message, testing::HasSubstr(root.string()));
  }
}

TEST(DiskStoreRoot, MissingParentsAreCreated) {
  const TemporaryDirectory directory;
  const fs::path root = directory.path() / "a" / "b" / "c";
  ASSERT_TRUE(DiskStore::open(root).has_value());
  EXPECT_TRUE(fs::is_directory(root));
}

}  // namespace
}  // namespace lutsmith::cache
