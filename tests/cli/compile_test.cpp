#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "command_line.h"

namespace lutsmith::tests {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

std::vector<std::string> spec(const std::string& verb, std::vector<std::string> more = {}) {
  std::vector<std::string> arguments{verb, "--n", "256", "--k", "512", "--target", "sm_80"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

TEST(Emit, PrintsTheSameSourceTwice) {
  const CommandLine program;
  const Outcome first = program.run(spec("emit"));
  ASSERT_EQ(first.exit_code, 0) << first.errors;
  EXPECT_THAT(first.output, HasSubstr("extern \"C\" __global__"));
  EXPECT_EQ(program.run(spec("emit")).output, first.output);
}

TEST(Emit, PrintsOneSourceUnlessJsonIsAskedFor) {
  const CommandLine program;
  EXPECT_EQ(program.run(spec("emit", {"--bits", "3,4"})).exit_code, 2);
  const Outcome json = program.run(spec("emit", {"--bits", "3,4", "--json"}));
  ASSERT_EQ(json.json()["kernels"].size(), 2U) << json.output;
  EXPECT_NE(json.json()["kernels"][0]["source"], json.json()["kernels"][1]["source"]);
}

TEST(Emit, ReportsAFullOutputAsFailure) {
  const CommandLine program;
  // The shell's redirection of CommandLine comes after this one and is harmless: sh applies it to `sh`.
  const std::string command =
      std::string(LUTSMITH_PROGRAM) + " emit --n 256 --k 512 --target sm_80 >/dev/full 2>/dev/null";
  EXPECT_NE(std::system(command.c_str()), 0);
}

TEST(Emit, ScheduleOptionsReplaceFieldsOfTheLibrarysChoice) {
  const CommandLine program;
  const auto chosen = program.run(spec("emit", {"--json"})).json()["schedule"];
  const auto changed =
      program.run(spec("emit", {"--json", "--warps", "3", "--weights", "async_copy", "--stages", "5"}))
          .json()["schedule"];
  EXPECT_EQ(changed["warps"], 3);
  EXPECT_EQ(changed["weights"], "async_copy");
  EXPECT_EQ(changed["stages"], 5);
  EXPECT_EQ(changed["tile_rows"], chosen["tile_rows"]);
}

TEST(Compile, TheSecondTimeIsAHitOfTheSameKey) {
  const CommandLine program;
  const Outcome first = program.run(spec("compile", {"--json"}));
  ASSERT_EQ(first.exit_code, 0) << first.errors;
  const Outcome second = program.run(spec("compile", {"--json"}));
  ASSERT_EQ(second.exit_code, 0) << second.errors;
  EXPECT_EQ(first.json()["cache"], "miss");
  EXPECT_EQ(second.json()["cache"], "hit");
  EXPECT_EQ(first.json()["key"], second.json()["key"]);
  for (const char* field : {"registers", "shared_bytes", "spill_bytes", "cubin_bytes", "source_bytes"}) {
    ASSERT_TRUE(first.json()[field].is_number()) << field;
    EXPECT_EQ(first.json()[field], second.json()[field]) << field;
  }
  EXPECT_EQ(first.json()["target"], "sm_80");
  EXPECT_GT(first.json()["milliseconds"], 0);
  EXPECT_GT(first.json()["cubin_bytes"], 0);
}

TEST(Compile, ListsGiveAnArrayInTheOrderAskedFor) {
  const Outcome outcome = CommandLine().run(spec("compile", {"--bits", "2,3", "--m", "1,16", "--json"}));
  ASSERT_EQ(outcome.exit_code, 0) << outcome.errors;
  const auto kernels = outcome.json()["kernels"];
  ASSERT_EQ(kernels.size(), 4U);
  const int expected[4][2] = {{2, 1}, {2, 16}, {3, 1}, {3, 16}};
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(kernels[i]["spec"]["bits"], expected[i][0]);
    EXPECT_EQ(kernels[i]["spec"]["m"], expected[i][1]);
  }
}

TEST(Compile, TextNamesTheKernelAndTheCacheOutcome) {
  const Outcome outcome = CommandLine().run(spec("compile"));
  ASSERT_EQ(outcome.exit_code, 0) << outcome.errors;
  EXPECT_THAT(outcome.output, testing::AllOf(HasSubstr("256x512"), HasSubstr("sm_80"), HasSubstr("miss")));
}

TEST(Compile, OutputFileIsTheWholeCubin) {
  const CommandLine program;
  const Outcome outcome = program.run(spec("compile", {"--json", "-o", program.file("kernel.cubin")}));
  ASSERT_EQ(outcome.exit_code, 0) << outcome.errors;
  const std::string cubin = read_file(program.file("kernel.cubin"));
  EXPECT_EQ(cubin.size(), outcome.json()["cubin_bytes"]);
  EXPECT_EQ(cubin.substr(0, 4),
            "\x7f"
            "ELF");
  EXPECT_THAT(program.files(), testing::ElementsAre("kernel.cubin"));
}

TEST(Compile, OutputFileIsRefusedForSeveralKernels) {
  const CommandLine program;
  EXPECT_EQ(program.run(spec("compile", {"--m", "1,16", "-o", program.file("kernel.cubin")})).exit_code, 2);
  EXPECT_THAT(program.files(), IsEmpty());
}

TEST(Compile, FailedOutputLeavesNothingBehind) {
  const CommandLine program;
  const Outcome missing = program.run(spec("compile", {"-o", program.file("missing") / "kernel.cubin"}));
  EXPECT_EQ(missing.exit_code, 1);
  EXPECT_THAT(missing.errors, HasSubstr("missing"));
  EXPECT_THAT(program.files(), IsEmpty());
}

TEST(Compile, WithoutACompilerFailsSayingSoAndKeepsTheOldOutput) {
  CommandLine program;
  program.set_environment("LUTSMITH_NVRTC", program.file("no-such-compiler.so"));
  write_file(program.file("kernel.cubin"), "old");
  const Outcome outcome = program.run(spec("compile", {"--json", "-o", program.file("kernel.cubin")}));
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_THAT(outcome.errors, HasSubstr("no-such-compiler.so"));
  EXPECT_TRUE(outcome.json()["error"].is_object()) << outcome.output;
  EXPECT_EQ(read_file(program.file("kernel.cubin")), "old");
}

}  // namespace
}  // namespace lutsmith::tests
