#include "choices/database.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "example_document.h"
#include "expect_error.h"
#include "must.h"
#include "processes.h"
#include "temporary_directory.h"

namespace lutsmith::choices {
namespace {

namespace fs = std::filesystem;
using test::example_document;
using test::example_entry;
using test::example_gpu;
using test::example_spec;
using test::must;

constexpr const char* kName = "example-gpu-80gb-132.v1.json";

/// A cache directory with a document in it.
class TunedDatabase : public testing::Test {
 protected:
  TunedDatabase() { fs::permissions(directory_.path(), fs::perms::owner_all); }

  fs::path put(const std::string& text, const std::string& name = kName) {
    const fs::path folder = directory_.path() / "tuned";
    fs::create_directory(folder);
    fs::permissions(folder, fs::perms::owner_all);
    return directory_.write("tuned/" + name, text);
  }
  Document read() {
    return database_.read(example_gpu(), [&](std::string_view text) { complaints_ += text; });
  }

  TemporaryDirectory directory_;
  Database database_{directory_.path(), {}};
  std::string complaints_;
};

TEST_F(TunedDatabase, HasNothingOfAGpuThatNobodyTuned) {
  EXPECT_TRUE(read().entries().empty());
  EXPECT_EQ(complaints_, "");
  EXPECT_FALSE(fs::exists(directory_.path() / "tuned"));
}

TEST_F(TunedDatabase, KeepsWhatWasAdded) {
  must(database_.add(example_document()));
  EXPECT_EQ(read().entries().size(), 2U);
  Document more(example_gpu());
  more.put(example_entry(1024));
  must(database_.add(more));
  EXPECT_EQ(read().entries().size(), 3U);
  EXPECT_EQ(database_.path_of(example_gpu()), directory_.path() / "tuned" / kName);
  const std::vector<Document> all = database_.read_all({});  // those that are shipped, too
  const auto found = std::ranges::find(all, example_gpu(), &Document::gpu);
  ASSERT_NE(found, all.end());
  EXPECT_EQ(found->entries().size(), 3U);
}

TEST_F(TunedDatabase, SixteenProcessesAddWithoutLoss) {
  constexpr int kProcesses = 16;
  constexpr int kEach = 8;
  Processes processes;
  for (int i = 0; i < kProcesses; ++i) {
    processes.start([&, i] {
      for (int j = 0; j < kEach; ++j) {
        Document found(example_gpu());
        found.put(example_entry(64 * (1 + i * kEach + j)));
        if (!database_.add(found)) return 1;
      }
      return 0;
    });
  }
  EXPECT_EQ(processes.successes(), kProcesses);
  EXPECT_EQ(read().entries().size(), std::size_t{kProcesses * kEach});
  EXPECT_EQ(complaints_, "");
}

TEST_F(TunedDatabase, WriterKilledAtAnyMomentLeavesAWholeDocument) {
  must(database_.add(example_document()));
  Document many(example_gpu());
  for (int i = 0; i < 500; ++i) many.put(example_entry(64 * (i + 100)));
  for (int round = 0; round < 25; ++round) {
    const Signal begun;
    Processes processes;
    processes.start([&] {
      begun.give();
      while (database_.add(many)) {
      }
      return 1;
    });
    begun.wait();
    usleep(static_cast<useconds_t>(round * 1700));
    processes.kill_first();
    EXPECT_GE(read().entries().size(), 2U);
    EXPECT_NE(read().find(example_spec(6144)), nullptr);
    ASSERT_EQ(complaints_, "") << round;
  }
  must(database_.add(example_document()));  // nobody holds the lock any more
}

TEST_F(TunedDatabase, DamagedDocumentIsAMissAndIsPutAside) {
  const std::string whole = write_document(example_document());
  const fs::path file = put(whole.substr(0, whole.size() / 2));
  EXPECT_TRUE(read().entries().empty());
  EXPECT_NE(complaints_.find("cut off"), std::string::npos) << complaints_;
  EXPECT_NE(complaints_.find(kName), std::string::npos) << complaints_;
  must(database_.add(example_document()));
  EXPECT_EQ(read().entries().size(), 2U);
  EXPECT_EQ(file_bytes(file.string() + ".damaged"), whole.substr(0, whole.size() / 2));
}

TEST_F(TunedDatabase, EntryThatCannotBeReadIsToldAndKept) {
  std::string text = write_document(example_document());
  text.replace(text.find("\"warps\":4"), 9, "\"warps\":4,\"of_next_year\":1");
  const fs::path file = put(text);
  EXPECT_EQ(read().entries().size(), 1U);
  EXPECT_NE(complaints_.find("an entry is passed over"), std::string::npos) << complaints_;
  EXPECT_NE(complaints_.find(kName), std::string::npos) << complaints_;
  must(database_.add(example_document()));
  EXPECT_EQ(read().entries().size(), 2U);
  EXPECT_NE(file_bytes(file).find("of_next_year"), std::string::npos);
}

TEST_F(TunedDatabase, DocumentOfAnotherSchemaIsAMissAndLeftAlone) {
  const std::string text = "{\"schema\": 7, \"gpu\": {}}";
  const fs::path file = put(text);
  EXPECT_TRUE(read().entries().empty());
  EXPECT_NE(complaints_.find("schema is 7"), std::string::npos) << complaints_;
  expect_error(database_.add(example_document()), ErrorCode::unsupported, "schema is 7");
  EXPECT_EQ(file_bytes(file), text);
}

TEST_F(TunedDatabase, DocumentOfAnotherGpuUnderThisNameIsAMiss) {
  Document other({.name = "Other", .multiprocessors = 1, .target = example_gpu().target});
  put(write_document(other));
  EXPECT_TRUE(read().entries().empty());
  EXPECT_NE(complaints_.find("of Other"), std::string::npos) << complaints_;
}

TEST_F(TunedDatabase, FolderThatOthersMayWriteToIsNotRead) {
  put(write_document(example_document()));
  fs::permissions(directory_.path() / "tuned", fs::perms::all);
  EXPECT_TRUE(read().entries().empty());
  EXPECT_NE(complaints_, "");
}

TEST_F(TunedDatabase, SymbolicLinkInPlaceOfTheFolderIsNotFollowed) {
  const TemporaryDirectory elsewhere;
  fs::create_directory_symlink(elsewhere.path(), directory_.path() / "tuned");
  EXPECT_FALSE(database_.add(example_document()));
  EXPECT_TRUE(elsewhere.names().empty());
}

TEST_F(TunedDatabase, TheUsersOwnEntriesComeBeforeThoseOfDirectories) {
  Entry own = example_entry(4096, "2025-01-01T00:00:00Z");  // older, and yet
  own.choice.partitions = 7;
  Document mine(example_gpu());
  mine.put(own);
  must(database_.add(mine));
  const TemporaryDirectory image;
  fs::permissions(image.path(), fs::perms::owner_all);
  must(Database(image.path(), {}).add(example_document()));
  const Document both = Database(directory_.path(), {image.path()}).read(example_gpu(), {});
  EXPECT_EQ(both.entries().size(), 2U);
  EXPECT_EQ(both.find(example_spec())->choice.partitions, 7);
}

TEST_F(TunedDatabase, WithoutADirectoryTellsThatNothingIsKept) {
  expect_error(Database("", {}).add(example_document()), ErrorCode::not_found, "no cache directory");
}

TEST(ShippedDocuments, CanAllBeRead) {
  for (const Document& document : shipped_documents()) {
    EXPECT_EQ(document.unread(), 0U) << describe(document.gpu());
    EXPECT_FALSE(document.entries().empty()) << describe(document.gpu());
  }
}

TEST_F(TunedDatabase, OwnDocumentsAreThoseOfTheDirectoryAlone) {
  EXPECT_TRUE(database_.read_all_own({}).empty());
  must(database_.add(example_document()));
  put("{", "other-gpu-8.v1.json");
  std::string complaints;
  const auto own = database_.read_all_own([&](std::string_view text) { complaints += text; });
  ASSERT_EQ(own.size(), 1U);
  EXPECT_EQ(write_document(own[0]), write_document(example_document()));
  EXPECT_NE(complaints.find("other-gpu-8.v1.json"), std::string::npos) << complaints;
}

TEST_F(TunedDatabase, GpuWhoseFileIsAnothersIsNotAdded) {
  must(database_.add(example_document()));
  Gpu other = example_gpu();
  other.name = "Example-GPU 80GB";  // the same file
  Document found(other);
  found.put(example_entry(1024));
  expect_error(database_.add(found), ErrorCode::unsupported, "Example-GPU 80GB");
  EXPECT_EQ(write_document(read()), write_document(example_document()));
}

}  // namespace
}  // namespace lutsmith::choices
