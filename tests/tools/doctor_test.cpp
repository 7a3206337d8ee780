#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "command_line.h"

namespace lutsmith::tests {
namespace {

using testing::HasSubstr;

TEST(Doctor, NamesCompilerDriverAndCache) {
  const CommandLine program;
  const Outcome json = program.run({"doctor", "--json"});
  ASSERT_EQ(json.exit_code, 0) << json.errors;
  const auto report = json.json();
  EXPECT_TRUE(report["compiler"]["ok"]);
  EXPECT_TRUE(report["compiler"]["version"].is_string());
  EXPECT_TRUE(report["driver"]["ok"].is_boolean());
  EXPECT_TRUE(report["gpus"].is_array());
  EXPECT_TRUE(report["cache"]["ok"]);
  EXPECT_EQ(report["cache"]["entries"], 0);
  const Outcome text = program.run({"doctor"});
  EXPECT_EQ(text.exit_code, 0);
  EXPECT_THAT(text.output, testing::AllOf(HasSubstr("compiler"), HasSubstr("driver"), HasSubstr("gpu"),
                                          HasSubstr("cache")));
}

TEST(Doctor, CountsWhatIsInTheCache) {
  const CommandLine program;
  ASSERT_EQ(program.run({"compile", "--n", "64", "--k", "64", "--m", "1", "--target", "sm_80"}).exit_code, 0);
  EXPECT_EQ(program.run({"doctor", "--json"}).json()["cache"]["entries"], 1);
}

TEST(Doctor, WithoutACompilerFailsAndSaysWhatToDo) {
  CommandLine program;
  program.set_environment("LUTSMITH_NVRTC", program.file("no-such-compiler.so"));
  const Outcome outcome = program.run({"doctor"});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_THAT(outcome.output, testing::AllOf(HasSubstr("no-such-compiler.so"), HasSubstr("LUTSMITH_NVRTC")));
  EXPECT_FALSE(program.run({"doctor", "--json"}).json()["compiler"]["ok"]);
}

TEST(Doctor, NamesTheHostCompilerOrWhatItWouldBeFor) {
  CommandLine program;
  EXPECT_THAT(program.run({"doctor"}).output, HasSubstr("--emulate"));
  const auto found = program.run({"doctor", "--json"}).json()["emulator"];
  EXPECT_TRUE(found["ok"]);
  EXPECT_TRUE(std::filesystem::exists(found["host_compiler"].get<std::string>()));

  program.set_environment("LUTSMITH_HOST_CXX", "/nonexistent");
  const Outcome text = program.run({"doctor"});
  EXPECT_EQ(text.exit_code, 0);
  EXPECT_THAT(text.output, testing::AllOf(HasSubstr("LUTSMITH_HOST_CXX"), HasSubstr("run --emulate")));
  const auto missing = program.run({"doctor", "--json"}).json()["emulator"];
  EXPECT_FALSE(missing["ok"]);
  EXPECT_THAT(missing["error"]["message"].get<std::string>(), HasSubstr("/nonexistent"));
}

TEST(Doctor, ACacheThatCannotBeUsedIsToldAndIsNoFailure) {
  CommandLine program;
  write_file(program.file("file"), "");
  program.set_environment("LUTSMITH_CACHE_DIR", program.file("file"));
  const Outcome outcome = program.run({"doctor", "--json"});
  EXPECT_EQ(outcome.exit_code, 0);
  EXPECT_FALSE(outcome.json()["cache"]["ok"]);
  EXPECT_THAT(outcome.json()["cache"]["advice"].get<std::string>(), HasSubstr("LUTSMITH_CACHE_DIR"));
}

}  // namespace
}  // namespace lutsmith::tests
