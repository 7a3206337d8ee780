#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <sstream>

#include "command_line.h"

namespace lutsmith::tests {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

class EveryVerb : public testing::TestWithParam<const char*> {
 protected:
  Outcome run(const std::vector<std::string>& options) const {
    std::vector<std::string> arguments;
    std::istringstream words(GetParam());
    for (std::string word; words >> word;) arguments.push_back(word);
    arguments.insert(arguments.end(), options.begin(), options.end());
    return program_.run(arguments);
  }

  CommandLine program_;
};

TEST_P(EveryVerb, HelpShowsAnExampleAndTheJsonOption) {
  const Outcome outcome = run({"--help"});
  EXPECT_EQ(outcome.exit_code, 0);
  EXPECT_THAT(outcome.output, HasSubstr(std::string("  lutsmith ") + GetParam()));
  EXPECT_THAT(outcome.output, AllOf(HasSubstr("Examples:"), HasSubstr("--json")));
  EXPECT_EQ(outcome.errors, "");
}

TEST_P(EveryVerb, RefusesAnUnknownOptionWithExitCodeTwo) {
  const Outcome outcome = run({"--no-such-option"});
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_THAT(outcome.errors, StartsWith("lutsmith: error: "));
  EXPECT_THAT(outcome.errors, HasSubstr(std::string("see `lutsmith ") + GetParam() + " --help`"));
  EXPECT_EQ(outcome.output, "");
}

TEST_P(EveryVerb, ReportsWrongArgumentsAsJsonWhereJsonWasAskedFor) {
  const Outcome outcome = run({"--json", "--no-such-option"});
  EXPECT_EQ(outcome.exit_code, 2);
  ASSERT_TRUE(outcome.json().is_object()) << outcome.output;
  EXPECT_EQ(outcome.json()["error"]["code"], "invalid_argument");
}

INSTANTIATE_TEST_SUITE_P(CommandLine, EveryVerb,
                         testing::Values("emit", "compile", "quantize", "run", "warm", "tune", "bench",
                                         "report", "doctor", "cache stats", "cache ls", "cache show",
                                         "cache verify", "cache prune", "cache clear", "cache export",
                                         "cache import"),
                         [](const auto& instance) {
                           std::string name = instance.param;
                           std::ranges::replace(name, ' ', '_');
                           return name;
                         });

struct BadValue {
  const char* name;
  std::vector<std::string> arguments;  ///< after n = k = 4096 and the target sm_90a, which they may replace
  std::vector<std::string> message;    ///< what the error has to name: field, value, what is allowed
};

class BadSpec : public testing::TestWithParam<BadValue> {};

TEST_P(BadSpec, IsRefusedNamingFieldValueAndWhatIsAllowed) {
  const CommandLine program;
  for (const char* verb : {"emit", "compile", "warm"}) {
    std::vector<std::string> arguments{verb};
    arguments.insert(arguments.end(), GetParam().arguments.begin(), GetParam().arguments.end());
    const Outcome outcome = program.run(arguments);
    EXPECT_EQ(outcome.exit_code, 2) << verb;
    EXPECT_EQ(outcome.output, "") << verb;
    EXPECT_THAT(outcome.errors, StartsWith("lutsmith: error: ")) << verb;
    for (const std::string& part : GetParam().message) EXPECT_THAT(outcome.errors, HasSubstr(part)) << verb;
    arguments.emplace_back("--json");
    EXPECT_EQ(program.run(arguments).json()["error"]["code"], "invalid_argument") << verb;
  }
}

INSTANTIATE_TEST_SUITE_P(
    CommandLine, BadSpec,
    testing::Values(
        BadValue{"bits_0",
                 {"--bits", "0", "--n", "64", "--k", "64", "--target", "sm_90a"},
                 {"bits", " 0 ", "1, 2, 3, 4"}},
        BadValue{"bits_9",
                 {"--bits", "9", "--n", "64", "--k", "64", "--target", "sm_90a"},
                 {"bits", " 9 ", "1, 2, 3, 4"}},
        BadValue{"bits_in_a_list",
                 {"--bits", "4,7", "--n", "64", "--k", "64", "--target", "sm_90a"},
                 {"bits", " 7 ", "1, 2, 3, 4"}},
        BadValue{"bits_word",
                 {"--bits", "four", "--n", "64", "--k", "64", "--target", "sm_90a"},
                 {"bits", "'four'"}},
        BadValue{"group_48",
                 {"--group", "48", "--n", "64", "--k", "64", "--target", "sm_90a"},
                 {"group", "48", "32, 64, 128, 256, channel"}},
        BadValue{
            "k_100", {"--n", "64", "--k", "100", "--target", "sm_90a"}, {"k", " 100 ", "multiples of 8"}},
        BadValue{"n_0", {"--n", "0", "--k", "64", "--target", "sm_90a"}, {"n", " 0 ", "1 to "}},
        BadValue{"n_negative", {"--n", "-5", "--k", "64", "--target", "sm_90a"}, {"n", "-5", "1 to "}},
        BadValue{"n_too_long",
                 {"--n", "99999999999999999999", "--k", "64", "--target", "sm_90a"},
                 {"n", "99999999999999999999"}},
        BadValue{"m_0", {"--m", "0", "--n", "64", "--k", "64", "--target", "sm_90a"}, {"m", " 0 ", "1 to "}},
        BadValue{
            "empty_list_item", {"--m", "1,", "--n", "64", "--k", "64", "--target", "sm_90a"}, {"m", "''"}},
        BadValue{"unknown_target",
                 {"--target", "sm_90", "--n", "64", "--k", "64"},
                 {"target", "'sm_90'", "sm_80", "sm_90a", "sm_120a"}},
        BadValue{"wrong_dtype",
                 {"--dtype", "f32", "--n", "64", "--k", "64", "--target", "sm_90a"},
                 {"dtype", "'f32'", "f16, bf16"}},
        BadValue{"wrong_table",
                 {"--table", "triple", "--n", "64", "--k", "64", "--target", "sm_90a"},
                 {"table", "'triple'", "scalar, pair"}},
        BadValue{"unknown_model",
                 {"--model", "llama9-1b", "--target", "sm_90a"},
                 {"model", "'llama9-1b'", "llama3.1-8b", "gemma2-27b"}},
        BadValue{"tp_that_does_not_divide",
                 {"--model", "llama3.1-8b", "--tp", "3", "--target", "sm_90a"},
                 {"tp", "3", "1, 2, 4, 8"}},
        BadValue{"no_shape", {"--target", "sm_90a"}, {"n", "--n", "--k", "--model"}},
        BadValue{"shape_and_model",
                 {"--model", "llama3.1-8b", "--n", "64", "--k", "64", "--target", "sm_90a"},
                 {"model", "n and k"}},
        BadValue{"tile_rows_24",
                 {"--tile-rows", "24", "--n", "64", "--k", "64", "--target", "sm_90a"},
                 {"tile_rows", "24", "16"}},
        BadValue{"bulk_copy_on_an_old_gpu",
                 {"--weights", "bulk_copy", "--n", "64", "--k", "64", "--target", "sm_80"},
                 {"weights", "sm_80 has no bulk copies", "registers, async_copy"}},
        BadValue{"unknown_weight_path",
                 {"--weights", "magic", "--n", "64", "--k", "64", "--target", "sm_90a"},
                 {"weights", "'magic'", "registers, async_copy, bulk_copy"}}),
    [](const auto& instance) { return std::string(instance.param.name); });

TEST(CommandLine, BenchRefusesWhatNoKernelMakesOfItsSums) {
  const CommandLine program;
  const Outcome both =
      program.run({"bench", "--n", "64", "--k", "64", "--gated", "silu", "--bias", "off,on"});
  EXPECT_EQ(both.exit_code, 2);
  EXPECT_THAT(both.errors, HasSubstr("gated: silu is not allowed beside a bias"));
  const Outcome odd = program.run({"bench", "--n", "72", "--k", "64", "--gated", "silu"});
  EXPECT_EQ(odd.exit_code, 2);
  EXPECT_THAT(odd.errors, HasSubstr("n: 72 is not allowed where rows are gated"));
}

TEST(CommandLine, WithoutAVerbOrWithAnUnknownOneNamesThoseThereAre) {
  const CommandLine program;
  const std::vector<std::pair<std::vector<std::string>, std::vector<std::string>>> cases{
      {{}, {"a verb is missing", "warm", "see `lutsmith --help`"}},
      {{"wram"}, {"'wram'", "warm", "see `lutsmith --help`"}},
      {{"--jsno"}, {"'--jsno'", "warm"}},
      {{"cache"}, {"a verb is missing", "verify", "see `lutsmith cache --help`"}},
      {{"cache", "list"}, {"'list'", "ls", "see `lutsmith cache --help`"}},
  };
  for (const auto& [arguments, message] : cases) {
    const Outcome outcome = program.run(arguments);
    EXPECT_EQ(outcome.exit_code, 2);
    EXPECT_THAT(outcome.errors, StartsWith("lutsmith: error: "));
    for (const std::string& part : message) EXPECT_THAT(outcome.errors, HasSubstr(part));
  }
  EXPECT_EQ(program.run({"cache", "--json"}).json()["error"]["code"], "invalid_argument");
}

TEST(CommandLine, HelpListsEveryVerb) {
  const Outcome outcome = CommandLine().run({"--help"});
  EXPECT_EQ(outcome.exit_code, 0);
  for (const char* verb :
       {"emit", "compile", "quantize", "run", "warm", "tune", "bench", "cache", "report", "doctor"}) {
    EXPECT_THAT(outcome.output, HasSubstr(verb));
  }
  const Outcome cache = CommandLine().run({"cache", "--help"});
  for (const char* verb : {"stats", "ls", "show", "verify", "prune", "clear", "export", "import"}) {
    EXPECT_THAT(cache.output, HasSubstr(verb));
  }
}

TEST(CommandLine, NativeTargetWithoutAGpuSaysToGiveATarget) {
  CommandLine program;
  program.set_environment("CUDA_VISIBLE_DEVICES", "");
  const Outcome outcome = program.run({"emit", "--n", "64", "--k", "64"});
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_THAT(outcome.errors, AllOf(HasSubstr("give --target"), HasSubstr("sm_90a")));
}

}  // namespace
}  // namespace lutsmith::tests
