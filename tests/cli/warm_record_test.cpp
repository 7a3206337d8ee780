#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <set>
#include <sstream>

#include "lutsmith/safetensors.h"
#include "lutsmith/service.h"
#include "small_kernels.h"

namespace lutsmith::tests {
namespace {

using testing::AllOf;
using testing::HasSubstr;

/// A program that asks for kernels, and a machine without any that is warmed from what was recorded.
class Recording : public testing::Test {
 protected:
  std::filesystem::path record() const { return program_.file("kernels.jsonl"); }

  std::multiset<std::string> warmed_keys() {
    program_.set_environment("LUTSMITH_RECORD", "");
    program_.set_environment("LUTSMITH_CACHE_DIR", program_.file("warmed"));
    const Outcome outcome = program_.run({"warm", "--json", "--manifest", record()});
    EXPECT_EQ(outcome.exit_code, 0) << outcome.errors;
    std::multiset<std::string> keys;
    const auto report = outcome.json();
    EXPECT_EQ(report["hits"], 0);
    for (const auto& kernel : report["kernels"]) keys.insert(kernel["key"].get<std::string>());
    return keys;
  }

  std::string key_of_compiling(const std::vector<std::string>& more) const {
    const Outcome outcome = program_.run(small_kernels("compile", "3", more));
    EXPECT_EQ(outcome.exit_code, 0) << outcome.errors;
    return outcome.json()["key"];
  }

  std::size_t recorded_lines() const {
    std::istringstream lines(read_file(record()));
    std::size_t count = 0;
    for (std::string line; std::getline(lines, line); ++count) {
      EXPECT_TRUE(nlohmann::json::parse(line, nullptr, false).is_object()) << line;
    }
    return count;
  }

  CommandLine program_;
};

TEST_F(Recording, OfTheEnvironmentWarmsTheSameKernels) {
  program_.set_environment("LUTSMITH_RECORD", record());
  std::multiset<std::string> asked;
  asked.insert(key_of_compiling({"--json", "--group", "channel", "--dtype", "bf16"}));
  asked.insert(key_of_compiling({"--json", "--table", "pair", "--m", "16"}));
  asked.insert(key_of_compiling({"--json", "--warps", "2", "--weights", "async_copy"}));
  EXPECT_EQ(recorded_lines(), 3U);
  EXPECT_EQ(warmed_keys(), asked);
}

TEST_F(Recording, OfAChoiceWithPartitionsWarmsItsKernel) {
  Result<Service> service = Service::open({.memory_only = true, .record = record()});
  ASSERT_TRUE(service) << service.error().message;
  const KernelSpec spec{.format = {.n = 64, .k = 128}, .m = 1, .target = *Target::parse("sm_80")};
  const auto made = service->compile(spec, Choice(FewTokensSchedule{.warps = 2}, 3));
  ASSERT_TRUE(made) << made.error().message;
  ASSERT_THAT(read_file(record()), HasSubstr("\"partitions\":3"));
  EXPECT_EQ(warmed_keys(), std::multiset<std::string>{made->artifact->key});
}

// What a schedule of another family than the first is recorded with.
TEST_F(Recording, ThatNamesTheFamilyOfTheScheduleWarmsItsKernel) {
  program_.set_environment("LUTSMITH_RECORD", record());
  const std::string asked = key_of_compiling({"--json", "--warps", "2"});
  auto line = nlohmann::json::parse(read_file(record()));
  line["schedule"]["family"] = FewTokensSchedule::kFamily;
  write_file(record(), line.dump());
  EXPECT_EQ(warmed_keys(), std::multiset<std::string>{asked});
}

TEST_F(Recording, OfManyRunsHoldsEachRequestOnce) {
  program_.set_environment("LUTSMITH_RECORD", record());
  for (int run = 0; run < 2; ++run) {
    ASSERT_EQ(program_.run(small_kernels("compile", "2,3")).exit_code, 0);
  }
  EXPECT_EQ(recorded_lines(), 2U);
}

TEST_F(Recording, ThatCannotBeWrittenIsAWarningWhereOnlyTheEnvironmentAsksForIt) {
  program_.set_environment("LUTSMITH_RECORD", program_.file("missing") / "kernels.jsonl");
  const Outcome outcome = program_.run(small_kernels("compile", "2"));
  EXPECT_EQ(outcome.exit_code, 0);
  EXPECT_THAT(outcome.errors, AllOf(HasSubstr("warning"), HasSubstr("missing")));
}

/// A packed checkpoint of one layer.
class RecordingRun : public Recording {
 protected:
  void SetUp() override {
    const std::vector<float> weights(64 * 128, 0.5F);
    const TensorWithBytes layer{"mlp.weight", "F32", {64, 128}, std::as_bytes(std::span(weights))};
    ASSERT_TRUE(write_safetensors(program_.file("model.safetensors"), {&layer, 1}, {}));
    const Outcome outcome =
        program_.run({"quantize", program_.file("model.safetensors"), "-o", packed(), "--layers", "mlp"});
    ASSERT_EQ(outcome.exit_code, 0) << outcome.errors;
  }
  std::filesystem::path packed() const { return program_.file("packed.safetensors"); }
};

TEST_F(RecordingRun, WarmsTheKernelsOfTheCheckpoint) {
  const Outcome outcome =
      program_.run({"run", packed(), "--json", "--m", "1", "--target", "sm_80,sm_90a", "--record", record()});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.errors;
  std::multiset<std::string> asked;
  const auto report = outcome.json();
  for (const auto& kernel : report["layers"][0]["kernels"]) asked.insert(kernel["key"].get<std::string>());
  EXPECT_GE(asked.size(), 2U);
  EXPECT_EQ(warmed_keys(), asked);
}

TEST_F(RecordingRun, FailsWhereItCannotRecord) {
  const auto file = program_.file("missing") / "kernels.jsonl";
  const Outcome outcome = program_.run({"run", packed(), "--json", "--target", "sm_80", "--record", file});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_THAT(outcome.errors, HasSubstr(file.string()));
  EXPECT_EQ(outcome.json()["error"]["code"], "io_error");
}

TEST_F(RecordingRun, IsRefusedWithTheEmulatorWhichAsksForNoKernels) {
  const Outcome outcome = program_.run({"run", packed(), "--emulate", "--record", record()});
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_THAT(outcome.errors, AllOf(HasSubstr("--record"), HasSubstr("--emulate")));
  EXPECT_FALSE(std::filesystem::exists(record()));
}

}  // namespace
}  // namespace lutsmith::tests
