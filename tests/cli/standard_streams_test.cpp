#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>
#include <optional>

#include "signal_action.h"
#include "small_checkpoint.h"
#include "small_kernels.h"

namespace lutsmith::tests {
namespace {

using testing::HasSubstr;

/// A pipe whose reader is gone.
class BrokenPipe {
 public:
  BrokenPipe() {
    int ends[2] = {-1, -1};
    EXPECT_EQ(pipe(ends), 0);
    close(ends[0]);
    writer_ = dup2(ends[1], kNumber);  // a number of one digit, which any shell can name
    EXPECT_EQ(writer_, kNumber);
    if (ends[1] != kNumber) close(ends[1]);
  }
  BrokenPipe(const BrokenPipe&) = delete;
  BrokenPipe& operator=(const BrokenPipe&) = delete;
  ~BrokenPipe() { close(writer_); }

  static std::string as_standard_error() { return fmt::format("2>&{}", kNumber); }

 private:
  static constexpr int kNumber = 9;
  int writer_ = -1;
};

/// Every way in which standard error can be of no use.
class UselessStandardError : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (std::string(GetParam()) == "broken, SIGPIPE ignored") ignored_.emplace(SIGPIPE, SIG_IGN);
    write_checkpoint(input_, {{"a.weight", {64, 64}, wavy_values(64 * 64)},
                              {"b.weight", {64, 64}, wavy_values(64 * 64)},
                              {"c.weight", {64, 64}, wavy_values(64 * 64)}});
  }

  Outcome run(const std::vector<std::string>& arguments) const {
    const std::string how = GetParam();
    return program_.run_redirected(how.starts_with("broken") ? BrokenPipe::as_standard_error() : how,
                                   arguments);
  }

  CommandLine program_;
  std::filesystem::path input_ = program_.file("model.safetensors");
  BrokenPipe pipe_;
  std::optional<SignalAction> ignored_;
};

INSTANTIATE_TEST_SUITE_P(All, UselessStandardError,
                         testing::Values("2>&-", "2>/dev/full", "broken", "broken, SIGPIPE ignored"),
                         [](const auto& instance) { return fmt::format("Way{}", instance.index); });

TEST_P(UselessStandardError, CostsNoQuantizedFileAndNoByteOfIt) {
  ASSERT_EQ(program_.run({"quantize", input_, "-o", program_.file("told.safetensors")}).exit_code, 0);
  ASSERT_EQ(run({"quantize", input_, "-o", program_.file("untold.safetensors")}).exit_code, 0);
  EXPECT_EQ(read_file(program_.file("untold.safetensors")), read_file(program_.file("told.safetensors")));
}

TEST_P(UselessStandardError, CostsNoWarmKernel) {
  const Outcome outcome = run(small_kernels("warm", "2,3,4"));
  EXPECT_EQ(outcome.exit_code, 0);
  EXPECT_EQ(kernels_in_cache(program_), 3U);
}

TEST_P(UselessStandardError, CostsNoResultOfTheEmulator) {
  const auto packed = program_.file("packed.safetensors");
  ASSERT_EQ(program_.run({"quantize", input_, "-o", packed}).exit_code, 0);
  const Outcome outcome = run({"run", packed, "--emulate", "--m", "1"});
  EXPECT_EQ(outcome.exit_code, 0);
  EXPECT_THAT(outcome.output, HasSubstr("a.weight"));
}

TEST_P(UselessStandardError, LeavesExitCodesOfErrorsAsTheyAre) {
  EXPECT_EQ(run({"run", input_, "--no-such-option"}).exit_code, 2);
  EXPECT_EQ(run({"run", input_, "--target", "sm_1"}).exit_code, 2);
  EXPECT_EQ(run({"run", program_.file("missing"), "--target", "sm_80"}).exit_code, 1);
}

TEST_P(UselessStandardError, AWarningCostsNothing) {
  write_file(program_.file("no-folder"), "");
  program_.set_environment("LUTSMITH_CACHE_DIR", program_.file("no-folder"));
  EXPECT_EQ(run(small_kernels("compile", "4")).exit_code, 0);
}

TEST(StandardStreams, AFileTakesNoClosedDescriptorsPlace) {
  const CommandLine program;
  write_checkpoint(program.file("model.safetensors"), {{"a.weight", {64, 64}, wavy_values(64 * 64)}});
  const std::vector<std::string> told{"quantize", program.file("model.safetensors"), "-o",
                                      program.file("told.safetensors")};
  std::vector<std::string> untold = told;
  untold.back() = program.file("untold.safetensors");
  ASSERT_EQ(program.run(told).exit_code, 0);
  // The result is written before the summary fails, as it is where standard output is full.
  EXPECT_EQ(program.run_redirected("<&- >&- 2>&-", untold).exit_code, 1);
  EXPECT_EQ(read_file(program.file("untold.safetensors")), read_file(program.file("told.safetensors")));
}

TEST(StandardStreams, OutputThatCannotBeWrittenIsAnErrorOfEveryVerbAndNoAbort) {
  const CommandLine program;
  const auto input = program.file("model.safetensors");
  const auto packed = program.file("packed.safetensors");
  write_checkpoint(input, {{"a.weight", {64, 64}, wavy_values(64 * 64)}});
  ASSERT_EQ(program.run({"quantize", input, "-o", packed}).exit_code, 0);
  for (const char* redirection : {">/dev/full", ">&-"}) {
    for (const std::vector<std::string>& arguments :
         std::vector<std::vector<std::string>>{{"run", packed, "--target", "sm_80"},
                                               {"run", packed, "--target", "sm_80", "--json"},
                                               {"quantize", input, "-o", packed},
                                               {"quantize", input, "-o", packed, "--json"},
                                               {"emit", "--n", "64", "--k", "64", "--target", "sm_80"},
                                               {"doctor"},
                                               {"cache", "stats"},
                                               {"--help"},
                                               {"--version"}}) {
      const Outcome outcome = program.run_redirected(redirection, arguments);
      EXPECT_EQ(outcome.exit_code, 1) << arguments.front() << redirection;
      EXPECT_THAT(outcome.errors, HasSubstr("standard output")) << arguments.front() << redirection;
    }
  }
  EXPECT_EQ(program.run_redirected(">/dev/full", {"emit", "--json"}).exit_code, 2);
}

}  // namespace
}  // namespace lutsmith::tests
