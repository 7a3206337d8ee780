#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "lutsmith/kernel_spec.h"
#include "small_kernels.h"

namespace lutsmith::tests {
namespace {

using testing::HasSubstr;

constexpr const char* kManifest = R"([
  {"n": 64, "k": 128, "bits": [2, 3], "group": "channel", "m": [1, 16]},
  {"n": 64, "k": 256, "group": 64, "dtype": "bf16"},
  {"n": 64, "k": 256, "group": 64, "dtype": "bf16"}
])";

std::vector<std::string> warm(const CommandLine& program, std::vector<std::string> more = {}) {
  std::vector<std::string> arguments{"warm",     "--json", "--manifest", program.file("manifest.json"),
                                     "--target", "sm_80",  "--m",        "1"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

TEST(Warm, TheSecondTimeFindsEverything) {
  const CommandLine program;
  write_file(program.file("manifest.json"), kManifest);
  const Outcome first = program.run(warm(program));
  ASSERT_EQ(first.exit_code, 0) << first.errors;
  EXPECT_EQ(first.json()["requested"], 6);
  EXPECT_EQ(first.json()["merged"], 1);
  EXPECT_EQ(first.json()["compiled"], 5);
  EXPECT_EQ(first.json()["failed"], 0);
  const auto second = program.run(warm(program)).json();
  EXPECT_EQ(second["compiled"], 0);
  EXPECT_EQ(second["hits"], 5);
}

TEST(Warm, ShardsTogetherCoverEveryKernelExactlyOnce) {
  const CommandLine program;
  write_file(program.file("manifest.json"), kManifest);
  std::multiset<std::string> in_shards;
  for (const char* shard : {"1/3", "2/3", "3/3"}) {
    const Outcome outcome = program.run(warm(program, {"--shard", shard, "--jobs", "1"}));
    ASSERT_EQ(outcome.exit_code, 0) << outcome.errors;
    EXPECT_EQ(outcome.json()["hits"], 0) << shard;
    const auto part = outcome.json();
    for (const auto& kernel : part["kernels"]) in_shards.insert(kernel["key"].get<std::string>());
  }
  std::multiset<std::string> whole;
  const Outcome all = program.run(warm(program));
  EXPECT_EQ(all.json()["compiled"], 0);
  const auto everything = all.json();
  for (const auto& kernel : everything["kernels"]) whole.insert(kernel["key"].get<std::string>());
  EXPECT_EQ(in_shards, whole);
  EXPECT_EQ(std::set(whole.begin(), whole.end()).size(), whole.size());
}

TEST(Warm, ProgressGoesToStandardErrorAndTheSummaryToStandardOutput) {
  const CommandLine program;
  const Outcome outcome =
      program.run({"warm", "--n", "64", "--k", "128", "--m", "1", "--target", "sm_80,sm_90a"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.errors;
  EXPECT_THAT(outcome.errors, testing::AllOf(HasSubstr("[1/2]"), HasSubstr("[2/2]"), HasSubstr("miss")));
  EXPECT_THAT(outcome.output, HasSubstr("2 kernels: 2 compiled, 0 hits, 0 failed"));
}

TEST(Warm, WithoutTokensItWarmsForEveryNumberOfThem) {
  const CommandLine program;
  const Outcome warmed = program.run({"warm", "--json", "--n", "64", "--k", "128", "--target", "sm_80"});
  ASSERT_EQ(warmed.exit_code, 0) << warmed.errors;
  EXPECT_EQ(warmed.json()["requested"], kTokenBuckets.size());
  const Outcome later = program.run({"compile", "--json", "--n", "64", "--k", "128", "--target", "sm_80",
                                     "--m", "1,2,8,11,16,17,50,99,200,256,257,4096"});
  ASSERT_EQ(later.exit_code, 0) << later.errors;
  const auto kernels = later.json()["kernels"];
  ASSERT_EQ(kernels.size(), 12U);
  for (const auto& kernel : kernels) EXPECT_EQ(kernel["cache"], "hit") << kernel["spec"]["m"];
}

TEST(Warm, ModelLayersCarryTheirNames) {
  const Outcome outcome =
      CommandLine().run({"warm", "--json", "--model", "qwen2.5-0.5b", "--m", "1", "--target", "sm_80"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.errors;
  const auto kernels = outcome.json()["kernels"];
  ASSERT_EQ(kernels.size(), 4U);
  EXPECT_EQ(kernels[0]["layer"], "qkv");
  EXPECT_EQ(kernels[0]["spec"]["n"], 1152);
}

TEST(Warm, LayersThatModelsShareAreCompiledOnce) {
  // Both have layers of the same four shapes.
  const Outcome outcome = CommandLine().run({"warm", "--json", "--model", "llama3.1-8b,mistral-7b", "--m",
                                             "1", "--target", "sm_80", "--shard", "1/4"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.errors;
  EXPECT_EQ(outcome.json()["requested"], 8);
  EXPECT_EQ(outcome.json()["merged"], 4);
  EXPECT_EQ(outcome.json()["compiled"], 1);
}

TEST(Warm, ManifestAsksForBatchInvariantKernelsByTrueOrFalse) {
  const CommandLine program;
  write_file(program.file("manifest.json"),
             R"([{"n": 64, "k": 128, "bits": 4, "batch_invariant": true},
                 {"n": 64, "k": 256, "bits": 4, "batch_invariant": false}])");
  const Outcome outcome = program.run(warm(program));
  ASSERT_EQ(outcome.exit_code, 0) << outcome.errors;
  const auto warmed = outcome.json();
  ASSERT_EQ(warmed["kernels"].size(), 2U);
  for (const auto& kernel : warmed["kernels"]) {
    EXPECT_EQ(kernel["spec"].value("batch_invariant", false), kernel["spec"]["k"] == 128);
  }
  write_file(program.file("manifest.json"), R"([{"n": 64, "k": 128, "bits": true}])");
  EXPECT_EQ(program.run(warm(program)).exit_code, 2);
}

TEST(Warm, ModelsAndShapesAreWarmedBesideAManifestNotByItsEntries) {
  const CommandLine program;
  write_file(program.file("manifest.json"), R"([{"n": 64, "k": 128, "bits": 3}])");
  const Outcome model =
      program.run(warm(program, {"--model", "qwen2.5-0.5b", "--bits", "4", "--shard", "1/5"}));
  ASSERT_EQ(model.exit_code, 0) << model.errors;
  EXPECT_EQ(model.json()["requested"], 5);
  const auto kernels = model.json()["kernels"];
  ASSERT_EQ(kernels.size(), 1U);
  EXPECT_EQ(kernels[0]["spec"]["bits"], 3);
  EXPECT_FALSE(kernels[0].contains("model"));
  const Outcome shape = program.run(warm(program, {"--n", "64", "--k", "256"}));
  EXPECT_EQ(shape.json()["requested"], 2) << shape.errors;
  const Outcome both = program.run(warm(program, {"--n", "64", "--model", "qwen2.5-0.5b"}));
  EXPECT_EQ(both.exit_code, 2);
  EXPECT_THAT(both.errors, HasSubstr("model"));
}

TEST(Warm, KernelsThatTheLimitsDoNotLeaveInTheDirectoryAreAFailure) {
  CommandLine program;
  program.set_environment("LUTSMITH_CACHE_MAX_ENTRIES", "1");
  const Outcome compiled = program.run(small_kernels("warm", "2,3", {"--json"}));
  EXPECT_EQ(compiled.exit_code, 1);
  EXPECT_EQ(compiled.json()["compiled"], 2);
  EXPECT_EQ(compiled.json()["lost"], 1);
  EXPECT_THAT(compiled.errors, testing::AllOf(HasSubstr("1 kernel not in"), HasSubstr("limits")));
}

TEST(Warm, AHitThatHadToGoForAnotherKernelIsAFailureToo) {
  CommandLine program;
  const auto keys = fill_cache(program, "2");
  set_last_used(entry_file(program.cache(), keys[0]), std::chrono::minutes(30));
  program.set_environment("LUTSMITH_CACHE_MAX_ENTRIES", "1");
  const Outcome outcome = program.run(small_kernels("warm", "2,3", {"--json", "--jobs", "1"}));
  EXPECT_EQ(outcome.json()["hits"], 1);
  EXPECT_EQ(outcome.json()["lost"], 1);
  EXPECT_EQ(outcome.exit_code, 1);
}

TEST(Warm, KernelsOfASystemDirectoryAreNotLost) {
  CommandLine program;
  fill_cache(program, "2");
  program.set_environment("LUTSMITH_CACHE_PATH", program.cache());
  program.set_environment("LUTSMITH_CACHE_DIR", program.file("own"));
  const Outcome outcome = program.run(small_kernels("warm", "2", {"--json"}));
  EXPECT_EQ(outcome.exit_code, 0) << outcome.errors;
  EXPECT_EQ(outcome.json()["hits"], 1);
  EXPECT_EQ(outcome.json()["lost"], 0);
}

TEST(Warm, MoreJobsThanMemoryHasRoomForAreFewerAndThatIsTold) {
  const Outcome outcome = CommandLine().run(small_kernels("warm", "2", {"--json", "--jobs", "1024"}));
  ASSERT_EQ(outcome.exit_code, 0) << outcome.errors;
  const int jobs = outcome.json()["jobs"];
  EXPECT_GE(jobs, 1);
  EXPECT_LE(jobs, 1024);
  EXPECT_EQ(jobs < 1024, outcome.errors.contains("jobs: " + std::to_string(jobs) + " instead of 1024"))
      << outcome.errors;
}

TEST(Warm, AManifestWithoutEntriesIsTold) {
  const CommandLine program;
  write_file(program.file("manifest.json"), "");
  const Outcome outcome = program.run(warm(program));
  EXPECT_EQ(outcome.exit_code, 0);
  EXPECT_EQ(outcome.json()["requested"], 0);
  EXPECT_THAT(outcome.errors, testing::AllOf(HasSubstr("warning"), HasSubstr("manifest.json")));
}

TEST(Warm, AManifestThatCannotBeReadIsAnErrorInTheFormAskedFor) {
  const CommandLine program;
  EXPECT_EQ(program.run(warm(program)).exit_code, 1);
  std::filesystem::create_directory(program.file("manifest.json"));
  const Outcome outcome = program.run(warm(program));
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_THAT(outcome.json()["error"]["message"].get<std::string>(), HasSubstr("manifest.json"));
}

TEST(Warm, BadManifestsAreRefusedNamingTheEntry) {
  const CommandLine program;
  const std::map<std::string, std::string> cases{
      {"[{\"n\": 64, \"k\": 64}, {\"n\": 64, \"k\": 100}]", "entry 1: k: 100"},
      {"[{\"n\": 64, \"k\": 64, \"bit\": 4}]", "entry 0: 'bit'"},
      {"[{\"n\": [64], \"k\": 64}]", "entry 0: n"},
      {"[{\"n\": 64, \"k\": 64, \"m\": [[1]]}]", "entry 0: m"},
      {"[{\"n\": 64, \"k\": 64, \"m\": 1.5}]", "entry 0: m"},
      {"[7]", "entry 0"},
      {"{\"n\": 64}", "entry 0: k: is missing"},
      {"{\"n\": 64, \"k\": 64}\n7\n", "line 2 is no JSON object"},
      {"\n{\"n\": 64, \"k\": 64}\n{\"n\": 64, \"k\"", "line 3 is no JSON object"},
      {"[{\"n\": 64, \"k\": 64, \"schedule\": 7}]", "entry 0: schedule"},
      {"[{\"n\": 64, \"k\": 64, \"schedule\": {\"warp\": 4}}]", "'warp' is not known"},
      {"[{\"n\": 64, \"k\": 64, \"schedule\": {\"warps\": 99}}]", "warps"},
      {"[{\"n\": 64, \"k\": 64, \"schedule\": {\"family\": \"no_tokens\"}}]",
       "entry 0: schedule: family: \"no_tokens\" is not known; allowed: few_tokens, many_tokens, "
       "multistage"},
      {"[{\"n\": 64, \"k\": 64, \"target\": \"sm_80\", \"schedule\": {\"family\": \"many_tokens\"}}]",
       "entry 0: schedule: family: 'many_tokens' has no kernel for"},
      {"[{\"n\": 64, \"k\": 64, \"schedule\": {\"family\": 1}}]", "entry 0: schedule: family: 1"},
      {"[{\"n\": 64, \"k\": 64, \"partitions\": -1}]", "entry 0: partitions: -1 is not allowed"},
      {"[{\"n\": 64, \"k\": 64, \"partitions\": 1.5}]", "entry 0: partitions: 1.5"},
      {"[{\"n\": 64, \"k\": 64, \"partitions\": [1, 2]}]", "entry 0: partitions"},
      {"[{\"n\": 64,", "not a JSON array"},
  };
  for (const auto& [text, message] : cases) {
    write_file(program.file("manifest.json"), text);
    const Outcome outcome = program.run(warm(program));
    EXPECT_EQ(outcome.exit_code, 2) << text;
    EXPECT_THAT(outcome.errors, HasSubstr(message)) << text;
    EXPECT_EQ(outcome.json()["error"]["code"], "invalid_argument") << text;
  }
}

TEST(Warm, FailsWhereThereIsNoDirectoryToKeepTheKernels) {
  CommandLine program;
  write_file(program.file("file"), "");
  program.set_environment("LUTSMITH_CACHE_DIR", program.file("file"));
  const Outcome outcome =
      program.run({"warm", "--json", "--n", "64", "--k", "128", "--m", "1", "--target", "sm_80"});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_EQ(outcome.json()["cache_directory"], "");
  EXPECT_THAT(outcome.errors, HasSubstr("lutsmith: warning: "));
}

TEST(Warm, BadShardsAreRefused) {
  const CommandLine program;
  write_file(program.file("manifest.json"), kManifest);
  for (const char* shard : {"0/2", "3/2", "1", "1/", "/2", "a/b", "1/2/3", "-1/2"}) {
    const Outcome outcome = program.run(warm(program, {std::string("--shard=") + shard}));
    EXPECT_EQ(outcome.exit_code, 2) << shard;
    EXPECT_THAT(outcome.errors, HasSubstr("shard")) << shard;
  }
}

}  // namespace
}  // namespace lutsmith::tests
