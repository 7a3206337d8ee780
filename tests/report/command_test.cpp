#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "../choices/example_document.h"
#include "../cli/command_line.h"

namespace lutsmith::tests {
namespace {

using testing::HasSubstr;

void write(const CommandLine& program, const std::string& name, const choices::Entry& entry) {
  choices::Document document(test::example_gpu());
  document.put(entry);
  write_file(program.file(name), choices::write_document(document));
}

TEST(ReportCommand, ReadsADocumentWithoutGpuOrCache) {
  const CommandLine program;
  write(program, "choices.json", test::example_entry());
  const std::string file = program.file("choices.json");
  const Outcome json = program.run({"report", file, "--json"});
  ASSERT_EQ(json.exit_code, 0) << json.errors;
  EXPECT_EQ(json.json()["shapes"].size(), 1U);
  EXPECT_EQ(json.json()["gpus"][0]["name"], "Example GPU 80GB");
  const Outcome text = program.run({"report", file});
  EXPECT_EQ(text.exit_code, 0);
  EXPECT_THAT(text.output, HasSubstr("Example GPU 80GB, 132 multiprocessors"));
}

TEST(ReportCommand, WritesPageAndTablesBesideTheJson) {
  const CommandLine program;
  write(program, "choices.json", test::example_entry());
  const Outcome outcome = program.run({"report", program.file("choices.json"), "--json", "--html",
                                       program.file("report.html"), "--markdown", program.file("report.md")});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.errors;
  EXPECT_TRUE(outcome.json().is_object());
  EXPECT_THAT(read_file(program.file("report.html")), testing::StartsWith("<!DOCTYPE html>"));
  EXPECT_THAT(read_file(program.file("report.md")), testing::StartsWith("# Tuned choices"));
}

TEST(ReportCommand, WithoutFilesShowsWhatTheCacheHas) {
  const CommandLine program;
  write(program, "choices.json", test::example_entry());
  std::filesystem::create_directories(program.cache() / "tuned");
  std::filesystem::permissions(program.cache(), std::filesystem::perms::owner_all);
  std::filesystem::rename(program.file("choices.json"),
                          program.cache() / "tuned" / choices::file_name(test::example_gpu()));
  const Outcome outcome = program.run({"report", "--json"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.errors;
  EXPECT_THAT(outcome.output, HasSubstr("Example GPU 80GB"));
}

TEST(ReportCommand, ARegressionIsTheExitCodeOne) {
  const CommandLine program;
  write(program, "old.json", test::example_entry());
  choices::Entry slower = test::example_entry();
  slower.choice.microseconds *= 1.1;
  write(program, "new.json", slower);
  const Outcome outcome =
      program.run({"report", program.file("new.json"), "--against", program.file("old.json")});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_THAT(outcome.output, HasSubstr("slower 10.0 %"));
  EXPECT_EQ(
      program.run({"report", program.file("old.json"), "--against", program.file("new.json")}).exit_code, 0);
  EXPECT_EQ(program
                .run({"report", program.file("new.json"), "--against", program.file("old.json"),
                      "--tolerance", "15"})
                .exit_code,
            0);
}

TEST(ReportCommand, WhatCannotBeReadIsAnErrorThatNamesTheFile) {
  const CommandLine program;
  const std::string missing = program.file("missing.json");
  const Outcome outcome = program.run({"report", missing});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_THAT(outcome.errors, HasSubstr(missing));
  write_file(program.file("torn.json"), "{\"schema\": 1, \"gpu\"");
  EXPECT_EQ(program.run({"report", program.file("torn.json")}).exit_code, 1);
}

TEST(ReportCommand, OfUnknownModelsAllowedOnesAreTold) {
  const CommandLine program;
  write(program, "choices.json", test::example_entry());
  const Outcome outcome = program.run({"report", program.file("choices.json"), "--model", "llama9"});
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_THAT(outcome.errors, HasSubstr("llama3.1-8b"));
}

constexpr const char* kTimes = R"({
  "gpu": "Example GPU 80GB", "target": "sm_90a", "multiprocessors": 132, "driver": 13000, "cublas": null,
  "rows": [{"model": "llama3.1-8b", "tp": 1, "layer": "o", "count": 32,
            "spec": {"bits": 4, "group": 128, "n": 4096, "k": 4096, "m": 1, "dtype": "f16", "table": "scalar",
                     "target": "sm_90a"},
            "schedule": {"warps": 8}, "partitions": 132, "default": true, "microseconds": 5.1,
            "cublas_microseconds": 10.2, "floor_microseconds": 4.4}]})";

TEST(ReportCommand, TimesOfBenchAreShownInEveryForm) {
  const CommandLine program;
  write_file(program.file("times.json"), kTimes);
  const std::string file = program.file("times.json");
  const Outcome text = program.run({"report", file});
  ASSERT_EQ(text.exit_code, 0) << text.errors;
  EXPECT_THAT(text.output,
              testing::AllOf(HasSubstr("Example GPU 80GB"), HasSubstr("2.00x"), HasSubstr("llama3.1-8b o")));
  const Outcome json = program.run({"report", file, "--json", "--html", program.file("times.html"),
                                    "--markdown", program.file("times.md")});
  ASSERT_EQ(json.exit_code, 0) << json.errors;
  EXPECT_EQ(json.json()["shapes"][0]["worst"]["speedup"], 2);
  EXPECT_THAT(read_file(program.file("times.html")), testing::StartsWith("<!DOCTYPE html>"));
  EXPECT_THAT(read_file(program.file("times.md")), HasSubstr("| 1 | 5.10 | 10.2 | 2.00x |"));
}

TEST(ReportCommand, TimesAndChoicesTogetherAreRefused) {
  const CommandLine program;
  write(program, "choices.json", test::example_entry());
  write_file(program.file("times.json"), kTimes);
  const Outcome outcome = program.run({"report", program.file("times.json"), program.file("choices.json")});
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_THAT(outcome.errors, testing::AllOf(HasSubstr("times.json"), HasSubstr("choices.json"),
                                             HasSubstr("once for the files of each kind")));
}

TEST(ReportCommand, TimesAreNotComparedWithOlderOnes) {
  const CommandLine program;
  write_file(program.file("times.json"), kTimes);
  const std::string file = program.file("times.json");
  const Outcome against = program.run({"report", file, "--against", file});
  EXPECT_EQ(against.exit_code, 2);
  EXPECT_THAT(against.errors, HasSubstr("leave out --against"));
  const Outcome tolerance = program.run({"report", file, "--tolerance", "3"});
  EXPECT_EQ(tolerance.exit_code, 2);
  EXPECT_THAT(tolerance.errors, HasSubstr("--against"));
}

TEST(ReportCommand, TornTimesAndForeignFilesAreToldByName) {
  const CommandLine program;
  const std::string times = kTimes;
  write_file(program.file("torn.json"), times.substr(0, times.size() / 2));
  write_file(program.file("foreign.json"), R"({"error": {"message": "no GPU"}})");
  write_file(program.file("times.json"), times);
  for (const std::string name : {"torn.json", "foreign.json"}) {
    for (const std::vector<std::string>& files :
         {std::vector<std::string>{program.file(name)}, {program.file("times.json"), program.file(name)}}) {
      std::vector<std::string> arguments{"report"};
      arguments.insert(arguments.end(), files.begin(), files.end());
      const Outcome outcome = program.run(arguments);
      EXPECT_EQ(outcome.exit_code, 1);
      EXPECT_THAT(outcome.errors, testing::AllOf(HasSubstr(name), HasSubstr("lutsmith bench --json")));
    }
  }
}

}  // namespace
}  // namespace lutsmith::tests
