#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <sstream>

#include "small_kernels.h"

namespace lutsmith::tests {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::MatchesRegex;
using testing::Not;

TEST(CacheStats, CountsKernelsByTargetBitsAndCompiler) {
  const CommandLine program;
  const auto keys = fill_cache(program, "2,3");
  const Outcome outcome = program.run({"cache", "stats", "--json"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.errors;
  const auto stats = outcome.json();
  std::uintmax_t bytes = 0;
  for (const std::string& key : keys) bytes += std::filesystem::file_size(entry_file(program.cache(), key));
  EXPECT_EQ(stats["directory"], program.cache().string());
  EXPECT_EQ(stats["entries"], 2);
  EXPECT_EQ(stats["bytes"], bytes);
  EXPECT_EQ(stats["damaged"]["entries"], 0);
  EXPECT_EQ(stats["targets"]["sm_80"]["entries"], 2);
  EXPECT_EQ(stats["targets"]["sm_80"]["bytes"], bytes);
  EXPECT_EQ(stats["bits"]["2"]["entries"], 1);
  EXPECT_EQ(stats["bits"]["3"]["entries"], 1);
  ASSERT_EQ(stats["compilers"].size(), 1U);
  EXPECT_THAT(stats["compilers"].begin().key(), HasSubstr("nvrtc"));
  EXPECT_THAT(stats["system_directories"], IsEmpty());
  EXPECT_TRUE(stats["remote"].is_null());
  const Outcome text = program.run({"cache", "stats"});
  EXPECT_THAT(text.output, AllOf(HasSubstr("2 kernels, "), HasSubstr("sm_80"), HasSubstr("1 kernel, "),
                                 HasSubstr("at most 4.0 GiB and 100000 kernels")));
}

TEST(CacheStats, PrometheusGetsOneGaugePerLineWithItsHelpAndType) {
  CommandLine program;
  program.set_environment("LUTSMITH_CACHE_MAX_BYTES", "500M");
  fill_cache(program, "2,3");
  const Outcome outcome = program.run({"cache", "stats", "--prometheus"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.errors;
  std::istringstream lines(outcome.output);
  for (std::string help; std::getline(lines, help);) {
    std::string type;
    std::string gauge;
    std::getline(lines, type);
    std::getline(lines, gauge);
    EXPECT_THAT(help, MatchesRegex("# HELP lutsmith_cache_[a-z_]+ .+"));
    EXPECT_THAT(type, MatchesRegex("# TYPE lutsmith_cache_[a-z_]+ gauge"));
    EXPECT_THAT(gauge, MatchesRegex("lutsmith_cache_[a-z_]+ [0-9]+"));
  }
  EXPECT_THAT(outcome.output, AllOf(HasSubstr("\nlutsmith_cache_entries 2\n"),
                                    HasSubstr("\nlutsmith_cache_limit_bytes 524288000\n")));
}

TEST(CacheStats, NamesTheServerWithoutItsPassword) {
  CommandLine program;
  program.set_environment("LUTSMITH_REMOTE_CACHE", "http://user:secret@cache.example:8080/x");
  const Outcome text = program.run({"cache", "stats"});
  EXPECT_EQ(text.exit_code, 0) << text.errors;
  EXPECT_THAT(text.output, AllOf(HasSubstr("http://cache.example:8080/x"), Not(HasSubstr("secret"))));
  const Outcome json = program.run({"cache", "stats", "--json"});
  EXPECT_EQ(json.json()["remote"]["url"], "http://cache.example:8080/x");
  program.set_environment("LUTSMITH_REMOTE_CACHE", "ftp://user:secret@cache.example/x");
  const Outcome wrong = program.run({"cache", "stats", "--json"});
  EXPECT_EQ(wrong.json()["remote"]["error"]["code"], "invalid_argument") << wrong.output;
  EXPECT_THAT(wrong.output, Not(HasSubstr("secret")));
}

TEST(CacheList, KernelsUsedLastComeFirst) {
  const CommandLine program;
  const auto keys = fill_cache(program, "2,3,4");
  set_last_used(entry_file(program.cache(), keys[1]), std::chrono::minutes(20));
  set_last_used(entry_file(program.cache(), keys[0]), std::chrono::minutes(40));
  const Outcome outcome = program.run({"cache", "ls", "--json"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.errors;
  std::vector<std::string> listed;
  const auto report = outcome.json();
  for (const auto& kernel : report["kernels"]) listed.push_back(kernel["key"]);
  EXPECT_THAT(listed, ElementsAre(keys[2], keys[1], keys[0]));
  EXPECT_EQ(report["kernels"][0]["spec"]["bits"], 4);
  EXPECT_THAT(report["kernels"][0]["last_used"].get<std::string>(), MatchesRegex("20..-..-..T..:..:..Z"));
  const Outcome text = program.run({"cache", "ls"});
  for (const std::string& key : keys) EXPECT_THAT(text.output, HasSubstr(key.substr(0, 12)));
}

TEST(CacheList, TargetsLeaveOutTheOthers) {
  const CommandLine program;
  fill_cache(program, "2");
  EXPECT_EQ(program.run({"cache", "ls", "--json", "--target", "sm_80,sm_90a"}).json()["kernels"].size(), 1U);
  const Outcome none = program.run({"cache", "ls", "--target", "sm_90a"});
  EXPECT_EQ(none.exit_code, 0);
  EXPECT_THAT(none.output, AllOf(HasSubstr("no kernels for sm_90a"), HasSubstr("lutsmith warm")));
}

TEST(CacheList, DamagedKernelsAreCountedAndNotListed) {
  const CommandLine program;
  const auto keys = fill_cache(program, "2,3");
  flip_byte(entry_file(program.cache(), keys[0]), 3000);
  const Outcome json = program.run({"cache", "ls", "--json"});
  EXPECT_EQ(json.json()["kernels"].size(), 1U);
  EXPECT_EQ(json.json()["damaged"], 1);
  EXPECT_THAT(program.run({"cache", "ls"}).errors, HasSubstr("lutsmith cache verify"));
  EXPECT_EQ(program.run({"cache", "stats", "--json"}).json()["damaged"]["entries"], 1);
}

TEST(CacheList, SystemDirectoriesAreShownWhereverKernelsAre) {
  CommandLine program;
  program.set_environment("LUTSMITH_CACHE_DIR", program.file("image"));
  const auto keys = fill_cache(program, "2");
  program.set_environment("LUTSMITH_CACHE_DIR", program.file("own"));
  program.set_environment("LUTSMITH_CACHE_PATH",
                          program.file("missing").string() + ":" + program.file("image").string());
  const auto listed = program.run({"cache", "ls", "--json"}).json();
  EXPECT_THAT(listed["kernels"], IsEmpty());
  ASSERT_EQ(listed["system_directories"].size(), 2U);
  EXPECT_EQ(listed["system_directories"][0]["error"]["code"], "not_found");
  EXPECT_EQ(listed["system_directories"][1]["kernels"][0]["key"], keys[0]);
  const auto stats = program.run({"cache", "stats", "--json"}).json();
  EXPECT_EQ(stats["entries"], 0);
  EXPECT_EQ(stats["system_directories"][0]["error"]["code"], "not_found");
  EXPECT_EQ(stats["system_directories"][1]["entries"], 1);
  const Outcome text = program.run({"cache", "ls"});
  EXPECT_THAT(text.output, AllOf(HasSubstr("image (only read)"), HasSubstr(keys[0].substr(0, 12))));
  EXPECT_THAT(text.errors, AllOf(HasSubstr("missing"), HasSubstr("LUTSMITH_CACHE_PATH")));
  EXPECT_EQ(program.run({"cache", "show", keys[0], "--json"}).json()["key"], keys[0]);
  EXPECT_THAT(program.run({"cache", "show", "ffff"}).errors, HasSubstr("LUTSMITH_CACHE_PATH"));
}

TEST(CacheShow, SummaryTellsWhatTheKernelIsAndWhereItStands) {
  const CommandLine program;
  const auto keys = fill_cache(program, "3");
  const Outcome outcome = program.run({"cache", "show", keys[0].substr(0, 8)});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.errors;
  EXPECT_THAT(outcome.output, AllOf(HasSubstr(keys[0]), HasSubstr("64x128"), HasSubstr("nvrtc"),
                                    HasSubstr(entry_file(program.cache(), keys[0]).string())));
}

TEST(CacheShow, SourceIsWhatEmitPrints) {
  const CommandLine program;
  const auto keys = fill_cache(program, "3");
  const std::string emitted = program.run(small_kernels("emit", "3")).output;
  const Outcome shown = program.run({"cache", "show", keys[0], "--source"});
  ASSERT_EQ(shown.exit_code, 0) << shown.errors;
  EXPECT_EQ(shown.output, emitted);
  EXPECT_EQ(program.run({"cache", "show", keys[0], "--source", "-o", program.file("kernel.cu")}).output, "");
  EXPECT_EQ(read_file(program.file("kernel.cu")), emitted);
}

TEST(CacheShow, CubinIsWhatCompileWrites) {
  const CommandLine program;
  const auto keys = fill_cache(program, "3");
  ASSERT_EQ(program.run(small_kernels("compile", "3", {"-o", program.file("compiled")})).exit_code, 0);
  const Outcome shown = program.run({"cache", "show", keys[0], "--cubin"});
  ASSERT_EQ(shown.exit_code, 0) << shown.errors;
  EXPECT_EQ(shown.output, read_file(program.file("compiled")));
  ASSERT_EQ(program.run({"cache", "show", keys[0], "--cubin", "-o", program.file("shown")}).exit_code, 0);
  EXPECT_EQ(read_file(program.file("shown")), read_file(program.file("compiled")));
}

TEST(CacheShow, ManifestIsTheDocumentOfJson) {
  const CommandLine program;
  const auto keys = fill_cache(program, "3");
  const Outcome manifest = program.run({"cache", "show", keys[0], "--manifest"});
  ASSERT_EQ(manifest.exit_code, 0) << manifest.errors;
  EXPECT_EQ(manifest.json()["key"], keys[0]);
  EXPECT_EQ(manifest.json()["spec"]["bits"], 3);
  EXPECT_EQ(manifest.json(), program.run({"cache", "show", keys[0], "--json"}).json());
}

TEST(CacheShow, AmbiguousDigitsAreRefusedWithTheKeysTheyCouldMean) {
  const CommandLine program;
  const auto keys = fill_cache(program, "3");
  std::string other = keys[0];
  other.back() = other.back() == '0' ? '1' : '0';
  std::filesystem::copy_file(entry_file(program.cache(), keys[0]), entry_file(program.cache(), other));
  const Outcome outcome = program.run({"cache", "show", keys[0].substr(0, 6), "--json"});
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_THAT(outcome.errors, AllOf(HasSubstr("more digits"), HasSubstr(keys[0]), HasSubstr(other)));
  EXPECT_EQ(outcome.json()["error"]["code"], "invalid_argument");
  EXPECT_EQ(program.run({"cache", "show", keys[0]}).exit_code, 0);
  const Outcome misplaced = program.run({"cache", "show", other});
  EXPECT_EQ(misplaced.exit_code, 1) << "the entry of another key was shown as this one's";
  EXPECT_THAT(misplaced.errors, AllOf(HasSubstr("another key"), HasSubstr("lutsmith cache verify")));
}

TEST(CacheShow, KeysNobodyHasAreNotFound) {
  const Outcome outcome = CommandLine().run({"cache", "show", "0123abcd", "--json"});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_THAT(outcome.errors, AllOf(HasSubstr("0123abcd"), HasSubstr("lutsmith cache ls")));
  EXPECT_EQ(outcome.json()["error"]["code"], "not_found");
}

TEST(CacheShow, FailedOutputLeavesNothingBehind) {
  const CommandLine program;
  const auto keys = fill_cache(program, "3");
  const Outcome outcome =
      program.run({"cache", "show", keys[0], "--cubin", "-o", program.file("missing") / "kernel.cubin"});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_THAT(outcome.errors, HasSubstr("missing"));
  EXPECT_THAT(program.files(), IsEmpty());
}

TEST(CacheShow, OptionsThatDoNotGoTogetherAreRefused) {
  const CommandLine program;
  const auto keys = fill_cache(program, "3");
  const std::vector<std::pair<std::vector<std::string>, std::string>> cases{
      {{"12"}, "'12'"},
      {{"12FF"}, "0-9 and a-f"},
      {{keys[0] + "0"}, "4 to 64 digits"},
      {{keys[0], "--source", "--cubin"}, "one of"},
      {{keys[0], "--source", "--json"}, "one of"},
      {{keys[0], "-o", program.file("output")}, "--output goes with"},
      {{keys[0], "--json", "-o", program.file("output")}, "--output goes with"},
      {{}, "key"},
  };
  for (const auto& [more, message] : cases) {
    std::vector<std::string> arguments{"cache", "show"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const Outcome outcome = program.run(arguments);
    EXPECT_EQ(outcome.exit_code, 2) << outcome.errors;
    EXPECT_THAT(outcome.errors, HasSubstr(message));
  }
  EXPECT_THAT(program.files(), IsEmpty());
}

}  // namespace
}  // namespace lutsmith::tests
