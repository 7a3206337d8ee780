#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <sstream>

#include "command_line.h"
#include "small_checkpoint.h"

namespace lutsmith::tests {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

/// A checkpoint of the test's own, quantized and multiplied without a GPU's help being needed.
class Run : public testing::Test {
 protected:
  void quantize(const std::vector<SmallTensor>& tensors, std::vector<std::string> more = {}) {
    write_checkpoint(input_, tensors);
    std::vector<std::string> arguments{"quantize", input_, "-o", packed_};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const Outcome outcome = program_.run(arguments);
    ASSERT_EQ(outcome.exit_code, 0) << outcome.errors;
  }

  Outcome run(std::vector<std::string> more = {}) const {
    std::vector<std::string> arguments{"run", packed_, "--target", "sm_80", "--m", "2"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return program_.run(arguments);
  }
  nlohmann::json layers(std::vector<std::string> more = {}) const {
    more.emplace_back("--json");
    return run(std::move(more)).json()["layers"];
  }

  std::string asked(const std::string& tensor) const { return input_.string() + ":" + tensor; }

  CommandLine program_;
  std::filesystem::path input_ = program_.file("model.safetensors");
  std::filesystem::path packed_ = program_.file("packed.safetensors");
};

std::vector<SmallTensor> model_of_blocks(int blocks) {
  std::vector<SmallTensor> tensors;
  for (int i = 0; i < blocks; ++i) {
    const std::string block = fmt::format("encoder.layer.{}.", i);
    for (const char* name :
         {"attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"}) {
      tensors.push_back({block + name + ".weight", {64, 64}, wavy_values(64 * 64)});
    }
    tensors.push_back({block + "intermediate.dense.weight", {128, 64}, wavy_values(128 * 64)});
    tensors.push_back({block + "output.dense.weight", {64, 128}, wavy_values(64 * 128)});
  }
  tensors.push_back({"pooler.dense.weight", {64, 64}, wavy_values(64 * 64)});
  return tensors;
}

TEST_F(Run, AModelOfManyLayersIsOneScreen) {
  quantize(model_of_blocks(12));
  const Outcome outcome = run();
  ASSERT_EQ(outcome.exit_code, 0) << outcome.errors;
  std::istringstream text(outcome.output);
  int lines = 0;
  for (std::string line; std::getline(text, line); ++lines) EXPECT_LE(line.size(), 100U) << line;
  EXPECT_LE(lines, 24) << outcome.output;
  EXPECT_THAT(outcome.output, AllOf(HasSubstr("encoder.layer.*.attention.self.query.weight\n"),
                                    HasSubstr("pooler.dense.weight\n"), HasSubstr("in total\n    73"),
                                    Not(HasSubstr("layer.11"))));
}

TEST_F(Run, AllListsEveryLayer) {
  quantize(model_of_blocks(2));
  const Outcome outcome = run({"--all"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.errors;
  EXPECT_THAT(outcome.output,
              AllOf(HasSubstr("encoder.layer.0.attention.self.query.weight"),
                    HasSubstr("encoder.layer.1.attention.self.query.weight"), HasSubstr("sm_80")));
}

TEST_F(Run, OffATerminalProgressIsNotOneLinePerLayer) {
  quantize(model_of_blocks(12));
  const Outcome outcome = run();
  // A dozen, and one more for every five seconds of a slow machine.
  EXPECT_LT(std::ranges::count(outcome.errors, '\n'), 73) << outcome.errors;
  EXPECT_THAT(outcome.errors, HasSubstr("[73/73]"));
}

TEST_F(Run, CompiledAndFoundKernelsAreCounted) {
  quantize(
      {{"l.0.q.weight", {64, 64}, wavy_values(64 * 64)}, {"l.1.q.weight", {64, 64}, wavy_values(64 * 64)}});
  EXPECT_THAT(run().output, testing::ContainsRegex("2 +64x64 +4 .* 1 +1 +[0-9]+ ms\n"));
  EXPECT_THAT(run().output, testing::ContainsRegex("2 +64x64 +4 .* 0 +2 +[0-9]+ ms\n"));
}

TEST_F(Run, WhatKernelsMakeOfTheirSumsIsChecked) {
  quantize({{"a.weight", {64, 64}, wavy_values(64 * 64)}});
  for (const auto& [options, name] :
       {std::pair(std::vector<std::string>{"--residual", "on", "--bias", "on"}, "residual, bias"),
        std::pair(std::vector<std::string>{"--gated", "gelu_tanh"}, "gelu_tanh gates"),
        std::pair(std::vector<std::string>{"--residual", "on", "--output-type", "f32"},
                  "residual, f32 output")}) {
    const Outcome outcome = run(options);
    ASSERT_EQ(outcome.exit_code, 0) << outcome.output << outcome.errors;
    EXPECT_THAT(outcome.output, HasSubstr(fmt::format("multiplied with {} on", name)));
    std::vector<std::string> emulated = options;
    emulated.insert(emulated.end(), {"--emulate", "--json"});
    const auto json = run(emulated).json();
    EXPECT_EQ(json["epilogue"], name);
    EXPECT_TRUE(json["layers"][0]["right"]) << json;
    EXPECT_GT(json["layers"][0]["nonzero"], 2 * 64 / 2 - 4);
  }
  EXPECT_FALSE(run({"--json"}).json().contains("epilogue"));
}

TEST_F(Run, AnEpilogueThatALayerCannotHaveNamesTheLayer) {
  quantize({{"a.weight", {72, 64}, wavy_values(72 * 64)}});
  const Outcome outcome = run({"--gated", "silu"});
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_THAT(outcome.errors,
              AllOf(HasSubstr("layer 'a.weight'"), HasSubstr("n: 72"), HasSubstr("multiples of 16")));
  EXPECT_THAT(run({"--gated", "relu"}).errors, HasSubstr("allowed: none, silu, gelu_tanh"));
  EXPECT_THAT(run({"--residual", "on,off"}).errors, HasSubstr("residual: 'on,off'"));
}

TEST_F(Run, RoundingOfSubnormalProductsIsNoFault) {
  // Products of about 1e-6: below 6.1e-5 f16 has fewer digits.
  quantize({{"embed.weight", {8, 64}, wavy_values(8 * 64, 1e-2F)},
            {"a.weight", {64, 64}, wavy_values(64 * 64, 1e-4F)}});
  const Outcome outcome = run();
  EXPECT_EQ(outcome.exit_code, 0) << outcome.output << outcome.errors;
  const auto layer = layers()[0];
  EXPECT_EQ(layer["activations"], "embed.weight");
  EXPECT_TRUE(layer["right"]);
  EXPECT_GT(layer["relative_error"], 2e-3);  // more than rounding explains elsewhere
  EXPECT_LE(layer["largest_ulps"], 0.51);
  EXPECT_THAT(outcome.output, Not(HasSubstr("WRONG")));
}

TEST_F(Run, OverflowIsCalledOverflowAndNoFault) {
  quantize({{"a.weight", {64, 64}, std::vector<float>(64 * 64, 30000.0F)}});
  const Outcome outcome = run();
  EXPECT_EQ(outcome.exit_code, 0) << outcome.output;
  EXPECT_THAT(outcome.output, AllOf(HasSubstr("overflow"), HasSubstr("'a.weight'"), HasSubstr("bf16"),
                                    Not(HasSubstr("WRONG"))));
  const auto layer = layers()[0];
  EXPECT_GT(layer["overflowed"], 0);
  EXPECT_EQ(layer["wrong_overflow"], 0);
  EXPECT_TRUE(layer["right"]);
}

TEST_F(Run, LayersThatAllOverflowAreToldByTheFirstTenAndACount) {
  std::vector<SmallTensor> tensors;
  for (int i = 0; i < 13; ++i) {
    tensors.push_back({fmt::format("l.{}.weight", i), {64, 64}, std::vector<float>(64 * 64, 30000.0F)});
  }
  quantize(tensors);
  const auto overflows = [](const Outcome& outcome) {
    std::istringstream text(outcome.output);
    int lines = 0;
    for (std::string line; std::getline(text, line);) {
      if (line.starts_with("overflow: ") && line.contains("'l.")) ++lines;
    }
    return lines;
  };
  const Outcome outcome = run();
  EXPECT_EQ(overflows(outcome), 10) << outcome.output;
  EXPECT_THAT(outcome.output, HasSubstr("overflow: and 3 layers more; --all lists them\n"));
  const Outcome all = run({"--all"});
  EXPECT_EQ(overflows(all), 13) << all.output;
  EXPECT_THAT(all.output, Not(HasSubstr("--all lists")));
  EXPECT_EQ(layers().size(), 13U);
}

TEST_F(Run, ActivationsAskedForThatAreNotFiniteAreNamed) {
  std::vector<float> table = wavy_values(4 * 64);
  table[3 * 64 + 5] = kNan;
  quantize({{"x.table", {4, 64}, table}, {"a.weight", {64, 64}, wavy_values(64 * 64)}});
  const Outcome outcome = run({"--activations", asked("x.table")});
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_THAT(outcome.errors, AllOf(HasSubstr("row 3 of 'x.table'"), HasSubstr("nan")));
  // Beyond the range of the type is the same.
  table[3 * 64 + 5] = 1e6F;
  quantize({{"x.table", {4, 64}, table}, {"a.weight", {64, 64}, wavy_values(64 * 64)}});
  EXPECT_THAT(run({"--activations", asked("x.table")}).errors, AllOf(HasSubstr("row 3"), HasSubstr("inf")));
}

TEST_F(Run, RowsOfTheEmbeddingTableThatCannotServeArePassedOver) {
  std::vector<float> table = wavy_values(4 * 64);
  std::fill_n(table.begin() + 64, 64, 0.0F);
  table[3 * 64 + 5] = kNan;
  quantize({{"embed.weight", {4, 64}, table}, {"a.weight", {64, 64}, wavy_values(64 * 64)}});
  const auto layer = layers()[0];
  EXPECT_EQ(layer["activations"], "embed.weight");
  EXPECT_TRUE(layer["right"]);
  EXPECT_EQ(layer["nonzero"], 2 * 64);
}

TEST_F(Run, ATableOfUselessRowsIsReplacedAndSaidToBe) {
  for (const float value : {0.0F, kNan}) {
    quantize({{"embed.weight", {4, 64}, std::vector<float>(4 * 64, value)},
              {"a.weight", {64, 64}, wavy_values(64 * 64)}});
    const Outcome outcome = run();
    EXPECT_EQ(outcome.exit_code, 0) << outcome.errors;
    EXPECT_THAT(outcome.output, AllOf(HasSubstr("normal numbers"), HasSubstr("'embed.weight'")));
    EXPECT_EQ(layers()[0]["activations"], "gaussian");
    EXPECT_GT(layers()[0]["nonzero"], 0);
  }
}

TEST_F(Run, ActivationsAskedForThatTestNothingAreRefused) {
  quantize(
      {{"x.table", {4, 64}, std::vector<float>(4 * 64, 0.0F)}, {"a.weight", {64, 64}, wavy_values(64 * 64)}});
  const Outcome outcome = run({"--activations", asked("x.table")});
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_THAT(outcome.errors, AllOf(HasSubstr("'x.table'"), HasSubstr("tests nothing")));
}

TEST_F(Run, ProductsThatAllRoundToZeroTestNothing) {
  // 1e-6 times 1e-4: below what f16 can hold.
  const std::vector<float> tiny = wavy_values(4 * 64, 1e-6F);
  quantize({{"embed.weight", {4, 64}, tiny}, {"a.weight", {64, 64}, wavy_values(64 * 64, 1e-4F)}});
  EXPECT_EQ(layers()[0]["activations"], "gaussian");
  EXPECT_THAT(layers()[0]["activations_note"], HasSubstr("'embed.weight' every product is 0"));
  EXPECT_THAT(run().output, HasSubstr("normal numbers (with the rows of 'embed.weight'"));
  const Outcome asked_for = run({"--activations", asked("embed.weight")});
  EXPECT_EQ(asked_for.exit_code, 2);
  EXPECT_THAT(asked_for.errors, AllOf(HasSubstr("'embed.weight'"), HasSubstr("tests nothing")));
}

TEST_F(Run, ActivationsAskedForOfAWidthThatNoLayerHasAreRefused) {
  quantize({{"x.table", {4, 72}, wavy_values(4 * 72)},
            {"a.weight", {64, 64}, wavy_values(64 * 64)},
            {"b.weight", {64, 128}, wavy_values(64 * 128)}});
  const Outcome outcome = run({"--activations", asked("x.table")});
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_THAT(outcome.errors, AllOf(HasSubstr("'x.table' is 72 wide"), HasSubstr("64, 128")));
}

TEST_F(Run, LayersOfAnotherWidthThanTheActivationsAreCounted) {
  quantize({{"x.table", {4, 64}, wavy_values(4 * 64)},
            {"a.weight", {64, 64}, wavy_values(64 * 64)},
            {"b.weight", {64, 128}, wavy_values(64 * 128)}});
  const Outcome outcome = run({"--activations", asked("x.table")});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.errors;
  EXPECT_THAT(outcome.output, AllOf(HasSubstr("activations of 1 layer: rows of 'x.table'\n"),
                                    HasSubstr("activations of 1 layer: normal numbers ('x.table' is "
                                              "64 wide, not 128)\n")));
}

TEST_F(Run, NamesCannotSteerTheTerminal) {
  const std::string name = "evil\x1b[2J\x07\nname.weight";
  quantize({{name, {64, 64}, wavy_values(64 * 64)}});
  for (const Outcome& outcome : {run(), run({"--all"})}) {
    ASSERT_EQ(outcome.exit_code, 0);
    EXPECT_THAT(outcome.output,
                AllOf(HasSubstr("evil\\x1b[2J\\x07\\x0aname.weight"), Not(HasSubstr("\x1b"))));
    EXPECT_THAT(outcome.errors, Not(HasSubstr("\x1b")));
  }
  EXPECT_EQ(layers()[0]["layer"], name);
}

TEST_F(Run, WithoutAGpuTheReasonIsTold) {
  quantize({{"a.weight", {64, 64}, wavy_values(64 * 64)}});
  const auto doctor = program_.run({"doctor", "--json"}).json();
  if (!doctor["gpus"].empty()) GTEST_SKIP() << "there is a GPU";
  EXPECT_THAT(run().output, HasSubstr("not on the GPU: "));
  EXPECT_THAT(program_.run({"run", packed_, "--target", "sm_80", "--json"})
                  .json()["no_gpu_reason"]
                  .get<std::string>(),
              Not(testing::IsEmpty()));
}

}  // namespace
}  // namespace lutsmith::tests
