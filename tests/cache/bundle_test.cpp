#include "cache/bundles/bundle.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <iterator>

#include "bundle_fixture.h"
#include "cache/stores/disk_store.h"
#include "core/scratch.h"

namespace lutsmith::cache {
namespace {

namespace fs = std::filesystem;
using test::must;

TEST_F(BundleTest, RoundTripGivesEqualEntriesAlsoBetweenDirectories) {
  const auto disk = must(DiskStore::open(path("cache")));
  must(disk->put(key_of("large"), entry_of(key_of("large"), 'z', std::size_t{3} << 20)));
  for (const auto& [key, entry] : contents(from_)) must(disk->put(key, entry));
  const ExportSummary exported =
      must(export_bundle(*disk, must(all_keys(*disk)), path(), {.signer = &signer_, .created = kTime}));
  EXPECT_EQ(exported.entries, 3U);
  EXPECT_EQ(exported.bytes, fs::file_size(path()));
  EXPECT_TRUE(exported.left_out.empty());

  const auto other = must(DiskStore::open(path("other cache")));
  const ImportSummary imported = must(import_bundle(path(), *other, {.trusted = &trusted_}));
  EXPECT_EQ(imported.imported, 3U);
  EXPECT_EQ(imported.present, 0U);
  EXPECT_EQ(imported.created, "2025-01-31T23:59:59Z");
  EXPECT_EQ(imported.signer, trusted_.fingerprint());
  EXPECT_EQ(contents(*other), contents(*disk));
}

TEST_F(BundleTest, IsMadeAsTheGrammarSays) {
  must(export_all(&signer_));
  std::map<std::string, std::string> entries;  // by rising key
  for (const auto& [key, entry] : contents(from_)) entries[key.hex()] = text_of(must(encode(entry)));
  std::string lines;
  std::string bytes;
  for (const auto& [key, entry] : entries) {
    if (!lines.empty()) lines += ',';
    lines += line_of(key, entry);
    bytes += entry;
  }
  EXPECT_EQ(read_text(path()), forge(lines, bytes, &signer_));
}

TEST_F(BundleTest, SameEntriesTimeAndSignerGiveTheSameBytesInAnyOrder) {
  must(export_all(&signer_, "first"));
  const std::vector<Key> keys = {key_of("b"), key_of("a"), key_of("b")};
  must(export_bundle(from_, keys, path("second"), {.signer = &signer_, .created = kTime}));
  EXPECT_EQ(read_text(path("first")), read_text(path("second")));
}

TEST_F(BundleTest, EntriesThatAreThereAreLeftAlone) {
  must(export_all(&signer_));
  const Entry own = entry_of(key_of("a"), 'o');  // of another compile
  must(into_.put(key_of("a"), own));
  const ImportSummary first = must(import_trusted());
  EXPECT_EQ(first.imported, 1U);
  EXPECT_EQ(first.present, 1U);
  EXPECT_EQ(must(into_.get(key_of("a"))).entry, own);
  const ImportSummary second = must(import_trusted());
  EXPECT_EQ(second.imported, 0U);
  EXPECT_EQ(second.present, 2U);
}

/// Answers for one key with something else than the entry.
class FaultyStore final : public Store {
 public:
  FaultyStore(Store& below, Key key, Result<Lookup> answer)
      : below_(below), key_(std::move(key)), answer_(std::move(answer)) {}

  Result<Lookup> get(const Key& key) override { return key == key_ ? answer_ : below_.get(key); }
  Result<void> put(const Key& key, const Entry& entry) override {
    ++puts;
    if (refuse_puts) return std::unexpected(Error{ErrorCode::io_error, "the disk is full", ""});
    return below_.put(key, entry);
  }
  Result<bool> remove(const Key& key) override { return below_.remove(key); }
  Result<void> scan(const std::function<bool(const StoredEntry&)>& visit) override {
    return below_.scan(visit);
  }

  bool refuse_puts = false;
  int puts = 0;

 private:
  Store& below_;
  Key key_;
  Result<Lookup> answer_;
};

TEST_F(BundleTest, DamagedEntryIsReplacedAndANewerOneIsNot) {
  must(export_all(&signer_));
  FaultyStore damaged(into_, key_of("a"), Lookup{.state = LookupState::damaged, .entry = {}, .note = {}});
  EXPECT_EQ(must(import_bundle(path(), damaged, {.trusted = &trusted_})).imported, 2U);
  EXPECT_EQ(contents(into_), contents(from_));
  FaultyStore newer(into_, key_of("a"), Lookup{.state = LookupState::newer, .entry = {}, .note = {}});
  const ImportSummary summary = must(import_bundle(path(), newer, {.trusted = &trusted_}));
  EXPECT_EQ(summary.newer, 1U);
  EXPECT_EQ(summary.present, 1U);
  EXPECT_EQ(newer.puts, 0);
}

TEST_F(BundleTest, StoreThatTakesNothingEndsTheImportWithItsReason) {
  must(export_all(&signer_));
  FaultyStore full(into_, key_of("none"), Lookup{});
  full.refuse_puts = true;
  expect_refused(import_bundle(path(), full, {.trusted = &trusted_}), ErrorCode::io_error,
                 "the disk is full (0 of 2");
  EXPECT_EQ(full.puts, 1);
}

TEST_F(BundleTest, EntriesThatCannotBeHadAreLeftOutAndNamed) {
  const Result<Lookup> answers[] = {
      Lookup{},
      Lookup{.state = LookupState::damaged, .entry = {}, .note = "bits flipped"},
      Lookup{.state = LookupState::newer, .entry = {}, .note = "of the future"},
      std::unexpected(Error{ErrorCode::io_error, "cannot read", ""}),
      Lookup{.state = LookupState::hit, .entry = entry_of(key_of("b")), .note = {}},  // another's entry
  };
  const char* reasons[] = {"not in the cache", "bits flipped", "of the future", "cannot read",
                           "does not name its key"};
  for (std::size_t index = 0; index < std::size(answers); ++index) {
    FaultyStore store(from_, key_of("a"), answers[index]);
    const ExportSummary summary =
        must(export_bundle(store, must(all_keys(store)), path(), {.signer = &signer_}));
    EXPECT_EQ(summary.entries, 1U);
    ASSERT_EQ(summary.left_out.size(), 1U);
    EXPECT_EQ(summary.left_out[0].key, key_of("a"));
    EXPECT_THAT(summary.left_out[0].reason, testing::HasSubstr(reasons[index]));
    MemoryStore into;
    EXPECT_EQ(must(import_bundle(path(), into, {.trusted = &trusted_})).imported, 1U);
  }
}

TEST_F(BundleTest, NothingToExportIsAnErrorAndWritesNoFile) {
  for (const std::vector<Key>& keys : {std::vector<Key>{}, std::vector<Key>{key_of("none")}}) {
    const Result<ExportSummary> summary = export_bundle(from_, keys, path());
    ASSERT_FALSE(summary.has_value());
    EXPECT_EQ(summary.error().code, ErrorCode::not_found);
    EXPECT_FALSE(fs::exists(path()));
  }
}

TEST_F(BundleTest, FailedExportLeavesTheOldFileAndNothingElse) {
  fs::create_directory(path("out"));
  write_text(path("out/bundle"), "old");
  // A limit on file sizes stands in for a full disk: it binds the superuser too.
  struct rlimit saved{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &saved), 0);
  const auto previous = std::signal(SIGXFSZ, SIG_IGN);
  // The first is too small for the entries, the second for the whole bundle.
  for (const rlim_t bytes : {100U, 400U}) {
    struct rlimit small = saved;
    small.rlim_cur = bytes;
    ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
    const Result<ExportSummary> summary = export_all(&signer_, "out/bundle");
    setrlimit(RLIMIT_FSIZE, &saved);
    ASSERT_FALSE(summary.has_value()) << bytes;
    EXPECT_EQ(summary.error().code, ErrorCode::io_error);
    EXPECT_EQ(read_text(path("out/bundle")), "old");
    EXPECT_EQ(std::distance(fs::directory_iterator(path("out")), fs::directory_iterator()), 1);
  }
  std::signal(SIGXFSZ, previous);
  must(export_all(&signer_, "out/bundle"));
  EXPECT_EQ(std::distance(fs::directory_iterator(path("out")), fs::directory_iterator()), 1)
      << "no temporary stays";
}

[[noreturn]] void end_the_program(int /*signal*/) {
  static_cast<void>(core::remove_scratch());
  _exit(7);
}

TEST_F(BundleTest, ExportThatIsInterruptedWhileItWritesLeavesNothing) {
  fs::create_directory(path("out"));
  const std::uint64_t bytes = must(export_all(&signer_, "whole")).bytes;
  const pid_t child = fork();
  if (child == 0) {
    // The last byte of the bundle is one too many, which is a signal in the middle of the write.
    std::signal(SIGXFSZ, end_the_program);
    const struct rlimit limit{.rlim_cur = bytes - 1, .rlim_max = bytes - 1};
    if (setrlimit(RLIMIT_FSIZE, &limit) == 0) static_cast<void>(export_all(&signer_, "out/bundle"));
    _exit(1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 7) << "it was to end while it writes";
  EXPECT_TRUE(fs::is_empty(path("out")));
}

TEST_F(BundleTest, PlacesWhereNoFileCanBeAreRefused) {
  fs::create_directory(path("folder"));
  EXPECT_EQ(export_all(&signer_, "folder").error().code, ErrorCode::invalid_argument);
  EXPECT_EQ(export_all(&signer_, "folder/").error().code, ErrorCode::invalid_argument);
  EXPECT_EQ(export_all(&signer_, "missing/bundle").error().code, ErrorCode::io_error);
  EXPECT_EQ(export_bundle(from_, must(all_keys(from_)), "/dev/null").error().code,
            ErrorCode::invalid_argument);
  EXPECT_TRUE(fs::is_character_file("/dev/null"));
}

TEST_F(BundleTest, ProgressCountsEveryKeyOnceAndEveryImportedEntryTwice) {
  std::vector<std::pair<std::size_t, std::size_t>> steps;
  const BundleProgress note = [&steps](std::size_t done, std::size_t total) {
    steps.emplace_back(done, total);
  };
  must(export_bundle(from_, must(all_keys(from_)), path(), {.signer = &signer_, .progress = note}));
  EXPECT_THAT(steps, testing::ElementsAre(std::pair(1, 2), std::pair(2, 2)));
  steps.clear();
  must(import_bundle(path(), into_, {.trusted = &trusted_, .progress = note}));
  EXPECT_THAT(steps,
              testing::ElementsAre(std::pair(1, 4), std::pair(2, 4), std::pair(3, 4), std::pair(4, 4)));
}

/// Takes entries whose payload begins with a letter, refuses those with another.
struct LetterPlace {
  char taken = 'o';
  char refused = '!';
  std::map<Key, Entry> put = {};
  OtherPlace place{.takes = [this](const Key& /*key*/, const Entry& entry) -> Result<bool> {
                     const char first = entry.payload.empty() ? ' ' : static_cast<char>(entry.payload[0]);
                     if (first == refused) {
                       return std::unexpected(Error{ErrorCode::corrupt_data, "it is refused", ""});
                     }
                     return first == taken;
                   },
                   .put = [this](const Key& key, const Entry& entry) -> Result<void> {
                     put[key] = entry;
                     return {};
                   }};
};

TEST_F(BundleTest, OtherEntriesTravelBesideThoseOfTheStoreAndGoToTheirOwnPlace) {
  const std::vector<OtherEntry> others{{key_of("other"), entry_of(key_of("other"), 'o')},
                                       {key_of("more"), entry_of(key_of("more"), 'o')}};
  const ExportSummary exported = must(export_bundle(
      from_, must(all_keys(from_)), path(), {.signer = &signer_, .created = kTime, .others = others}));
  EXPECT_EQ(exported.entries, 2U);
  EXPECT_EQ(exported.others, 2U);
  EXPECT_EQ(exported.bytes, fs::file_size(path()));
  LetterPlace place;
  const ImportSummary imported =
      must(import_bundle(path(), into_, {.trusted = &trusted_, .other = &place.place}));
  EXPECT_EQ(imported.imported, 2U);
  EXPECT_EQ(imported.others, 2U);
  EXPECT_EQ(contents(into_), contents(from_));
  EXPECT_EQ(place.put,
            (std::map<Key, Entry>{{others[0].key, others[0].entry}, {others[1].key, others[1].entry}}));
}

TEST_F(BundleTest, OtherEntryThatCannotBeUsedKeepsAllFromBeingPut) {
  const std::vector<OtherEntry> others{{key_of("other"), entry_of(key_of("other"), 'o')},
                                       {key_of("bad"), entry_of(key_of("bad"), '!')}};
  must(export_bundle(from_, must(all_keys(from_)), path(), {.signer = &signer_, .others = others}));
  LetterPlace place;
  expect_refused(import_bundle(path(), into_, {.trusted = &trusted_, .other = &place.place}),
                 ErrorCode::corrupt_data, "it is refused");
  EXPECT_TRUE(place.put.empty());
}

TEST_F(BundleTest, OtherEntryThatDoesNotNameItsKeyIsLeftOut) {
  const std::vector<OtherEntry> others{{key_of("other"), entry_of(key_of("a"), 'o')}};
  const ExportSummary summary =
      must(export_bundle(from_, must(all_keys(from_)), path(), {.signer = &signer_, .others = others}));
  EXPECT_EQ(summary.others, 0U);
  ASSERT_EQ(summary.left_out.size(), 1U);
  EXPECT_EQ(summary.left_out[0].key, key_of("other"));
}

}  // namespace
}  // namespace lutsmith::cache
