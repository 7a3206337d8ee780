#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <llvm/ADT/ArrayRef.h>
#include <llvm/Support/SHA256.h>

#include <array>
#include <filesystem>

#include "small_kernels.h"

namespace lutsmith::tests {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;

/// Changes the version of an entry, and its digest accordingly: as another version of lutsmith may write it.
void set_version(const fs::path& file, char version) {
  constexpr std::size_t kVersionOffset = 8;
  constexpr std::size_t kDigestBytes = 32;
  std::string bytes = read_file(file);
  bytes[kVersionOffset] = version;
  bytes.resize(bytes.size() - kDigestBytes);
  const std::array digest =
      llvm::SHA256::hash({reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()});
  bytes.append(digest.begin(), digest.end());
  write_file(file, bytes);
}

/// A cache that its reader may look into but not change.
void protect(const fs::path& cache) {
  const auto readable = fs::perms::owner_read | fs::perms::group_read | fs::perms::others_read;
  const auto enterable = fs::perms::owner_exec | fs::perms::group_exec | fs::perms::others_exec;
  fs::permissions(cache.parent_path(), readable | enterable | fs::perms::owner_write);
  for (const auto& entry : fs::recursive_directory_iterator(cache)) {
    fs::permissions(entry.path(), entry.is_directory() ? readable | enterable : readable);
  }
  fs::permissions(cache, readable | enterable);
}

/// The opposite, so that the files can be removed after the test.
void unprotect(const fs::path& cache) {
  fs::permissions(cache, fs::perms::owner_all);
  for (const auto& entry : fs::recursive_directory_iterator(cache)) {
    fs::permissions(entry.path(), fs::perms::owner_all);
  }
}

TEST(CacheVerify, IntactKernelsAreGood) {
  const CommandLine program;
  fill_cache(program, "2,3");
  const Outcome json = program.run({"cache", "verify", "--json"});
  EXPECT_EQ(json.exit_code, 0) << json.errors;
  EXPECT_EQ(json.json()["checked"], 2);
  EXPECT_THAT(json.json()["bad"], IsEmpty());
  EXPECT_THAT(program.run({"cache", "verify"}).output, HasSubstr("2 kernels checked, 0 bad"));
}

TEST(CacheVerify, FindsDamageWhereverItIsAndChangesNothing) {
  const CommandLine program;
  const auto keys = fill_cache(program, "2,3");
  const fs::path file = entry_file(program.cache(), keys[0]);
  const std::string intact = read_file(file);
  for (const std::size_t offset : {std::size_t{0}, std::size_t{20}, intact.size() / 2, intact.size() - 1}) {
    flip_byte(file, offset);
    const std::string damaged = read_file(file);
    const Outcome outcome = program.run({"cache", "verify", "--json"});
    EXPECT_EQ(outcome.exit_code, 1) << offset;
    const auto report = outcome.json();
    ASSERT_EQ(report["bad"].size(), 1U) << outcome.output;
    EXPECT_EQ(report["bad"][0]["key"], keys[0]);
    EXPECT_EQ(report["bad"][0]["error"]["code"], "corrupt_data");
    EXPECT_EQ(read_file(file), damaged) << offset;
    write_file(file, intact);
  }
  write_file(file, "");
  const Outcome empty = program.run({"cache", "verify"});
  EXPECT_EQ(empty.exit_code, 1);
  EXPECT_THAT(empty.output, AllOf(HasSubstr("2 kernels checked, 1 bad"), HasSubstr("--repair")));
}

TEST(CacheVerify, RepairedKernelsAreHits) {
  const CommandLine program;
  const auto keys = fill_cache(program, "2,3,4");
  const fs::path file = entry_file(program.cache(), keys[0]);
  flip_byte(file, fs::file_size(file) / 2);
  // Intact, but another key's.
  fs::copy_file(entry_file(program.cache(), keys[2]), entry_file(program.cache(), keys[1]),
                fs::copy_options::overwrite_existing);
  const Outcome outcome = program.run({"cache", "verify", "--repair", "--json"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.errors;
  const auto report = outcome.json();
  ASSERT_EQ(report["bad"].size(), 2U);
  for (const auto& bad : report["bad"]) {
    EXPECT_TRUE(bad["repaired"]);
    EXPECT_THAT(bad["repair"].get<std::string>(),
                HasSubstr(bad["key"] == keys[0] ? "compiled anew" : "the next request"));
  }
  EXPECT_TRUE(fs::exists(file.string() + ".bad")) << "the damaged one was not kept for inspection";
  EXPECT_EQ(program.run({"cache", "verify"}).exit_code, 0);
  EXPECT_EQ(outcome_of_compiling(program, "2"), "hit");
  EXPECT_EQ(outcome_of_compiling(program, "3"), "miss") << "of that one nothing was left to tell what it was";
}

TEST(CacheVerify, WithoutACompilerRepairFailsButGetsBadKernelsOutOfTheWay) {
  CommandLine program;
  const auto keys = fill_cache(program, "2");
  flip_byte(entry_file(program.cache(), keys[0]), 3000);
  program.set_environment("LUTSMITH_NVRTC", program.file("no-such-compiler.so"));
  const Outcome outcome = program.run({"cache", "verify", "--repair", "--json"});
  EXPECT_EQ(outcome.exit_code, 1);
  ASSERT_EQ(outcome.json()["bad"].size(), 1U) << outcome.output;
  EXPECT_FALSE(outcome.json()["bad"][0]["repaired"]);
  EXPECT_THAT(outcome.json()["bad"][0]["repair"].get<std::string>(), HasSubstr("LUTSMITH_NVRTC"));
  EXPECT_EQ(program.run({"cache", "verify"}).exit_code, 0);
}

TEST(CacheVerify, KernelsOfOtherVersionsAreLeftAlone) {
  const CommandLine program;
  const auto keys = fill_cache(program, "2,3");
  const fs::path older = entry_file(program.cache(), keys[0]);
  const fs::path newer = entry_file(program.cache(), keys[1]);
  set_version(older, 1);
  set_version(newer, 99);
  const std::string before = read_file(older) + read_file(newer);
  const Outcome outcome = program.run({"cache", "verify", "--repair", "--json"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.output;
  EXPECT_EQ(outcome.json()["other_version"], 2);
  EXPECT_EQ(read_file(older) + read_file(newer), before);
  EXPECT_EQ(program.run({"cache", "stats", "--json"}).json()["other_version"]["entries"], 2);
}

TEST(CacheVerify, RepairThatMayNotWriteFails) {
  CommandLine program;
  program.set_environment("LUTSMITH_CACHE_DIR", program.file("cache"));
  const auto keys = fill_cache(program, "2");
  flip_byte(entry_file(program.file("cache"), keys[0]), 3000);
  protect(program.file("cache"));
  const Outcome outcome = program.run_unprivileged({"cache", "verify", "--repair", "--json"});
  unprotect(program.file("cache"));
  EXPECT_EQ(outcome.exit_code, 1) << outcome.errors;
  ASSERT_EQ(outcome.json()["bad"].size(), 1U) << outcome.output;
  EXPECT_FALSE(outcome.json()["bad"][0]["repaired"]);
  EXPECT_THAT(outcome.json()["bad"][0]["repair"].get<std::string>(), HasSubstr("cannot remove"));
}

/// A cache of three kernels, used one after the other, with files that are not the cache's own.
class CachePrune : public testing::Test {
 protected:
  CachePrune() : keys_(fill_cache(program_, "2,3,4")) {
    for (std::size_t i = 0; i < keys_.size(); ++i) {
      set_last_used(file(i), std::chrono::minutes(10 * static_cast<int>(keys_.size() - i)));
    }
    for (const fs::path& foreign : foreign_) write_file(foreign, "somebody else's");
  }

  void expect_foreign_files_untouched() const {
    for (const fs::path& foreign : foreign_) EXPECT_EQ(read_file(foreign), "somebody else's") << foreign;
  }
  fs::path file(std::size_t index) const { return entry_file(program_.cache(), keys_[index]); }

  CommandLine program_;
  std::vector<std::string> keys_;
  std::vector<fs::path> foreign_{program_.cache() / "README", program_.cache() / "v1" / "notes",
                                 file(0).parent_path() / "notes.lutk", file(0).string() + ".backup"};
};

TEST_F(CachePrune, ByCountKeepsTheKernelUsedLast) {
  const Outcome outcome = program_.run({"cache", "prune", "--max-entries", "1", "--json"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.errors;
  EXPECT_EQ(outcome.json()["removed"], 2);
  EXPECT_EQ(outcome.json()["entries"], 1);
  EXPECT_FALSE(fs::exists(file(0)));
  EXPECT_FALSE(fs::exists(file(1)));
  EXPECT_TRUE(fs::exists(file(2)));
  expect_foreign_files_untouched();
  EXPECT_EQ(outcome_of_compiling(program_, "4"), "hit");
}

TEST_F(CachePrune, ByBytesRemovesNoMoreThanIsNeeded) {
  const std::uintmax_t room = fs::file_size(file(1)) + fs::file_size(file(2));
  const Outcome outcome = program_.run({"cache", "prune", "--max-bytes", std::to_string(room), "--json"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.errors;
  EXPECT_EQ(outcome.json()["removed"], 1);
  EXPECT_EQ(outcome.json()["bytes"], room);
  EXPECT_FALSE(fs::exists(file(0)));
  expect_foreign_files_untouched();
}

TEST_F(CachePrune, LimitsComeFromTheEnvironmentWhereNoneAreGiven) {
  program_.set_environment("LUTSMITH_CACHE_MAX_ENTRIES", "2");
  EXPECT_EQ(program_.run({"cache", "prune", "--max-entries", "5", "--json"}).json()["removed"], 0);
  EXPECT_EQ(program_.run({"cache", "prune", "--json"}).json()["removed"], 1);
  EXPECT_THAT(program_.run({"cache", "prune"}).output, HasSubstr("0 kernels removed (0 B), 2 left"));
}

TEST_F(CachePrune, LimitsThatMakeNoSenseAreRefusedAndNothingGoes) {
  const std::vector<std::pair<std::string, std::string>> cases{{"--max-entries=-1", "'-1'"},
                                                               {"--max-entries=1e3", "'1e3'"},
                                                               {"--max-entries=99999999999999999999", "9999"},
                                                               {"--max-bytes=-1", "'-1'"},
                                                               {"--max-bytes=5x", "'5x'"},
                                                               {"--max-bytes=99999999T", "'99999999T'"}};
  for (const auto& [option, message] : cases) {
    const Outcome outcome = program_.run({"cache", "prune", option, "--json"});
    EXPECT_EQ(outcome.exit_code, 2) << option;
    EXPECT_THAT(outcome.errors, AllOf(HasSubstr(message), HasSubstr("allowed"))) << option;
    EXPECT_EQ(outcome.json()["error"]["code"], "invalid_argument") << option;
  }
  program_.set_environment("LUTSMITH_CACHE_MAX_BYTES", "much");
  const Outcome environment = program_.run({"cache", "prune"});
  EXPECT_EQ(environment.exit_code, 2);
  EXPECT_THAT(environment.errors, HasSubstr("LUTSMITH_CACHE_MAX_BYTES: 'much'"));
  for (std::size_t i = 0; i < keys_.size(); ++i) EXPECT_TRUE(fs::exists(file(i)));
}

TEST_F(CachePrune, ClearRemovesAllKernelsEvenThosePutAside) {
  write_file(file(1).string() + ".bad", "damaged");
  const Outcome outcome = program_.run({"cache", "clear", "--json"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.errors;
  EXPECT_EQ(outcome.json()["removed"], 3);
  EXPECT_EQ(outcome.json()["removed_damaged"], 1);
  EXPECT_EQ(kernels_in_cache(program_), 0U);
  expect_foreign_files_untouched();
  EXPECT_EQ(outcome_of_compiling(program_, "4"), "miss");
}

TEST(CacheClear, WithoutTheRightToWriteFails) {
  CommandLine program;
  program.set_environment("LUTSMITH_CACHE_DIR", program.file("cache"));
  fill_cache(program, "2");
  protect(program.file("cache"));
  const Outcome outcome = program.run_unprivileged({"cache", "clear", "--json"});
  unprotect(program.file("cache"));
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_EQ(outcome.json()["entries"], 1);
  EXPECT_THAT(outcome.errors, AllOf(HasSubstr("could not be removed"), HasSubstr("cache")));
}

TEST(CacheDirectory, ThatIsMissingIsEmptyAndStaysMissing) {
  const CommandLine program;
  for (const char* verb : {"stats", "ls", "verify", "prune", "clear"}) {
    const Outcome text = program.run({"cache", verb});
    EXPECT_EQ(text.exit_code, 0) << verb << text.errors;
    EXPECT_THAT(text.output, HasSubstr(program.cache().string())) << verb;
    EXPECT_TRUE(program.run({"cache", verb, "--json"}).json().is_object()) << verb;
  }
  EXPECT_EQ(program.run({"cache", "verify", "--repair"}).exit_code, 0);
  EXPECT_FALSE(fs::exists(program.cache()));
}

TEST(CacheDirectory, ThatCannotBeUsedIsAnErrorThatNamesTheSetting) {
  CommandLine program;
  write_file(program.file("file"), "");
  fs::create_directory(program.file("public"));
  fs::permissions(program.file("public"), fs::perms::all);
  for (const char* place : {"file", "public"}) {
    program.set_environment("LUTSMITH_CACHE_DIR", program.file(place));
    for (const char* verb : {"stats", "ls", "verify", "prune", "clear"}) {
      const Outcome outcome = program.run({"cache", verb, "--json"});
      EXPECT_EQ(outcome.exit_code, 1) << verb;
      EXPECT_THAT(outcome.errors, AllOf(HasSubstr(place), HasSubstr("LUTSMITH_CACHE_DIR"))) << verb;
      EXPECT_TRUE(outcome.json()["error"].is_object()) << verb;
    }
  }
}

}  // namespace
}  // namespace lutsmith::tests
