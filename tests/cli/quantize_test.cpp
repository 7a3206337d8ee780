#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "command_line.h"
#include "lutsmith/safetensors.h"

namespace lutsmith::tests {
namespace {

using testing::HasSubstr;

// Smooth, of both signs, without any period the groups could share.
std::vector<float> values(std::size_t count) {
  std::vector<float> result(count);
  for (std::size_t i = 0; i < count; ++i) {
    const auto x = static_cast<double>(i);
    result[i] = static_cast<float>(std::sin(x * 1.7) * std::cos(x * 0.013) * 0.1);
  }
  return result;
}

/// A checkpoint with two linear layers and four tensors that have to stay as they are.
class Checkpoint : public testing::Test {
 protected:
  void SetUp() override {
    const auto add = [&](const std::string& name, std::vector<std::int64_t> shape) {
      std::size_t count = 1;
      for (const std::int64_t side : shape) count *= static_cast<std::size_t>(side);
      data_.push_back(values(count));
      names_.emplace_back(name, std::move(shape));
    };
    add("block.attention.weight", {96, 72});
    add("block.attention.bias", {96});
    add("block.mlp.weight", {72, 128});
    add("embeddings.word.weight", {100, 72});
    add("block.small.weight", {8, 64});
    add("block.odd.weight", {64, 100});
    std::vector<TensorWithBytes> tensors;
    for (std::size_t i = 0; i < names_.size(); ++i) {
      tensors.push_back({names_[i].first, "F32", names_[i].second, std::as_bytes(std::span(data_[i]))});
    }
    const auto written = write_safetensors(input_, tensors, {{"format", "pt"}});
    ASSERT_TRUE(written) << written.error().message;
  }

  Outcome quantize(std::vector<std::string> more = {}) const {
    std::vector<std::string> arguments{"quantize", input_, "-o", output_, "--json"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return program_.run(arguments);
  }

  CommandLine program_;
  std::filesystem::path input_ = program_.file("model.safetensors");
  std::filesystem::path output_ = program_.file("packed.safetensors");
  std::vector<std::vector<float>> data_;
  std::vector<std::pair<std::string, std::vector<std::int64_t>>> names_;
};

TEST_F(Checkpoint, LinearLayersArePackedAndTheRestStaysByteForByte) {
  const Outcome outcome = quantize();
  ASSERT_EQ(outcome.exit_code, 0) << outcome.errors;
  const auto before = SafetensorsFile::open(input_);
  const auto after = SafetensorsFile::open(output_);
  ASSERT_TRUE(before && after);
  for (const char* name : {"block.attention.weight", "block.mlp.weight"}) {
    EXPECT_FALSE(after->tensors().contains(name)) << name;
    EXPECT_TRUE(after->tensors().contains(std::string(name) + ".packed")) << name;
    EXPECT_TRUE(after->tensors().contains(std::string(name) + ".table")) << name;
  }
  for (const char* name :
       {"block.attention.bias", "embeddings.word.weight", "block.small.weight", "block.odd.weight"}) {
    ASSERT_TRUE(after->tensors().contains(name)) << name;
    EXPECT_EQ(before->tensors().at(name).shape, after->tensors().at(name).shape) << name;
    const auto old_bytes = before->read(name);
    const auto new_bytes = after->read(name);
    ASSERT_TRUE(old_bytes && new_bytes) << name;
    EXPECT_EQ(*old_bytes, *new_bytes) << name;
  }
  EXPECT_EQ(after->metadata().at("format"), "pt");
}

TEST_F(Checkpoint, ReportsBytesAndAWeightErrorThatShrinksWithMoreBits) {
  double last_error = 1;
  double last_bytes = 0;
  for (const char* bits : {"2", "3", "4", "5", "6", "7", "8"}) {
    const Outcome outcome = quantize({"--bits", bits});
    ASSERT_EQ(outcome.exit_code, 0) << outcome.errors;
    const auto report = outcome.json();
    ASSERT_EQ(report["layers"].size(), 2U);
    EXPECT_EQ(report["bytes_before"], 4 * (96 * 72 + 72 * 128));
    EXPECT_GT(report["bytes_after"], last_bytes);
    EXPECT_GT(report["layers"][0]["weight_error"], 0.0);
    EXPECT_LT(report["layers"][0]["weight_error"], last_error);
    last_error = report["layers"][0]["weight_error"];
    last_bytes = report["bytes_after"];
  }
}

TEST_F(Checkpoint, LayersAreChosenByRegularExpression) {
  const Outcome outcome = quantize({"--layers", "small|mlp"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.errors;
  ASSERT_EQ(outcome.json()["layers"].size(), 2U);
  EXPECT_EQ(outcome.json()["layers"][0]["name"], "block.mlp.weight");
  EXPECT_EQ(outcome.json()["layers"][1]["name"], "block.small.weight");
}

TEST_F(Checkpoint, RunMultipliesEveryPackedLayerAndTheSecondRunHitsTheCache) {
  for (const char* method : {"nf", "int"}) {
    ASSERT_EQ(quantize({"--method", method, "--bits", "3"}).exit_code, 0);
    const Outcome first = program_.run({"run", output_, "--json", "--m", "3", "--target", "sm_80,sm_90a"});
    ASSERT_EQ(first.exit_code, 0) << first.errors;
    const Outcome second = program_.run({"run", output_, "--json", "--m", "3", "--target", "sm_80,sm_90a"});
    const auto layers = first.json()["layers"];
    ASSERT_EQ(layers.size(), 2U);
    for (std::size_t i = 0; i < 2; ++i) {
      EXPECT_TRUE(layers[i]["right"]);
      EXPECT_GT(layers[i]["relative_error"], 0.0);
      EXPECT_LT(layers[i]["relative_error"], 2e-3);
      EXPECT_GE(layers[i]["kernels"].size(), 2U);
      const auto again = second.json();
      for (const auto& kernel : again["layers"][i]["kernels"]) EXPECT_EQ(kernel["cache"], "hit");
    }
    // 72 wide, as the embedding table is; the other layer is not.
    EXPECT_EQ(layers[0]["activations"], "embeddings.word.weight");
    EXPECT_EQ(layers[1]["activations"], "gaussian");
  }
}

TEST_F(Checkpoint, RunTakesActivationsFromATensorThatIsNamed) {
  ASSERT_EQ(quantize().exit_code, 0);
  const std::string given = input_.string() + ":block.mlp.weight";
  const Outcome outcome =
      program_.run({"run", output_, "--json", "--activations", given, "--target", "sm_80"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.errors;
  EXPECT_EQ(outcome.json()["layers"][1]["activations"], "block.mlp.weight");
  EXPECT_EQ(program_.run({"run", output_, "--activations", input_.string() + ":nothing"}).exit_code, 2);
  EXPECT_EQ(program_.run({"run", output_, "--activations", "no-colon"}).exit_code, 2);
}

TEST_F(Checkpoint, TextOfRunNamesLayerKernelAndCacheOutcome) {
  ASSERT_EQ(quantize().exit_code, 0);
  const Outcome outcome = program_.run({"run", output_, "--target", "sm_80", "--all"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.errors;
  EXPECT_THAT(outcome.output,
              testing::AllOf(HasSubstr("block.mlp.weight"), HasSubstr("72x128"), HasSubstr("sm_80"),
                             HasSubstr("miss"), HasSubstr("relative error")));
}

TEST_F(Checkpoint, EmulatedRunComputesTheProductsWithoutGpuNvrtcAndCache) {
  ASSERT_EQ(quantize({"--bits", "3"}).exit_code, 0);
  program_.set_environment("LUTSMITH_NVRTC", program_.file("no-such-compiler.so"));
  for (const char* target : {"sm_80", "sm_90a"}) {
    const Outcome outcome =
        program_.run({"run", output_, "--emulate", "--json", "--m", "3", "--target", target});
    ASSERT_EQ(outcome.exit_code, 0) << outcome.errors;
    const auto report = outcome.json();
    EXPECT_EQ(report["device"], "emulator");
    ASSERT_EQ(report["layers"].size(), 2U);
    for (const auto& layer : report["layers"]) {
      EXPECT_EQ(layer["device"], "emulator");
      EXPECT_TRUE(layer["right"]);
      EXPECT_GT(layer["relative_error"], 0.0);
      EXPECT_LT(layer["relative_error"], 2e-3);
      ASSERT_EQ(layer["kernels"].size(), 1U);
      EXPECT_EQ(layer["kernels"][0]["target"], target);
      EXPECT_GT(layer["kernels"][0]["milliseconds"], 0.0);
      EXPECT_FALSE(layer["kernels"][0].contains("cache"));
    }
  }
}

TEST_F(Checkpoint, BitsThatNoKernelMultipliesArePackedAndRunSaysWhatToDo) {
  const Outcome packed = program_.run({"quantize", input_, "-o", output_, "--bits", "5"});
  ASSERT_EQ(packed.exit_code, 0) << packed.errors;
  EXPECT_THAT(packed.output, HasSubstr("No kernel multiplies 2 of them"));
  for (const std::vector<std::string>& where :
       {std::vector<std::string>{"--emulate"}, {"--target", "sm_80"}}) {
    std::vector<std::string> arguments{"run", output_};
    arguments.insert(arguments.end(), where.begin(), where.end());
    const Outcome run = program_.run(arguments);
    EXPECT_EQ(run.exit_code, 2);
    EXPECT_THAT(run.errors, testing::AllOf(HasSubstr("bits: 5 is not allowed; allowed: 1, 2, 3, 4"),
                                           HasSubstr("at most 4")));
  }
}

TEST_F(Checkpoint, LayersOfOneSpecAreCompiledOnceForTheEmulator) {
  const std::vector<float> weights = values(64 * 64);
  const auto bytes = std::as_bytes(std::span(weights));
  const std::vector<TensorWithBytes> tensors{{"first.weight", "F32", {64, 64}, bytes},
                                             {"second.weight", "F32", {64, 64}, bytes}};
  ASSERT_TRUE(write_safetensors(input_, tensors, {}));
  ASSERT_EQ(quantize().exit_code, 0);
  const auto compiler = program_.file("counting-c++");
  write_file(compiler, "#!/bin/sh\necho once >>'" + program_.file("count").string() + "'\nexec c++ \"$@\"\n");
  std::filesystem::permissions(compiler, std::filesystem::perms::owner_all);
  program_.set_environment("LUTSMITH_HOST_CXX", compiler);
  const Outcome outcome = program_.run({"run", output_, "--emulate", "--json", "--m", "1"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.errors;
  EXPECT_EQ(outcome.json()["layers"].size(), 2U);
  EXPECT_EQ(read_file(program_.file("count")), "once\n");
}

TEST_F(Checkpoint, EmulatedRunNamesTheLayerItsCompilerRefused) {
  ASSERT_EQ(quantize().exit_code, 0);
  program_.set_environment("LUTSMITH_HOST_CXX", "false");
  const Outcome outcome = program_.run({"run", output_, "--emulate", "--json"});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_EQ(outcome.json()["error"]["code"], "compilation_failed");
  EXPECT_THAT(outcome.errors, HasSubstr("layer 'block.attention.weight'"));
}

TEST_F(Checkpoint, EmulatedRunTakesOneTargetOnly) {
  ASSERT_EQ(quantize().exit_code, 0);
  const Outcome outcome = program_.run({"run", output_, "--emulate", "--target", "sm_80,sm_90a"});
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_THAT(outcome.errors, testing::AllOf(HasSubstr("target"), HasSubstr("'sm_80,sm_90a'")));
}

TEST_F(Checkpoint, EmulatedRunWithoutAHostCompilerNamesTheVariable) {
  ASSERT_EQ(quantize().exit_code, 0);
  program_.set_environment("LUTSMITH_HOST_CXX", "/nonexistent");
  const Outcome outcome = program_.run({"run", output_, "--emulate"});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_EQ(outcome.output, "");
  EXPECT_THAT(outcome.errors, testing::AllOf(HasSubstr("LUTSMITH_HOST_CXX"), HasSubstr("/nonexistent")));
}

TEST_F(Checkpoint, WrongOptionsAreRefusedAndLeaveNoFile) {
  const std::vector<std::vector<std::string>> cases{{"--bits", "0"},
                                                    {"--bits", "9"},
                                                    {"--group", "48"},
                                                    {"--method", "af"},
                                                    {"--dtype", "f32"},
                                                    {"--layers", "("},
                                                    {"--layers", "no such one"},
                                                    {"--layers", "odd"},
                                                    {"--method", "fp", "--bits", "3"},
                                                    {"--scales", "best"},
                                                    {"--method", "kmeans", "--scales", "absmax"},
                                                    {"--group", "0"}};
  for (const auto& options : cases) {
    const Outcome outcome = quantize(options);
    EXPECT_EQ(outcome.exit_code, 2) << options.front() << " " << options.back();
    EXPECT_EQ(outcome.json()["error"]["code"], "invalid_argument") << options.back();
  }
  EXPECT_THAT(program_.files(), testing::ElementsAre("model.safetensors"));
}

double largest_error(const nlohmann::json& report) {
  double largest = 0;
  for (const auto& layer : report["layers"]) largest = std::max(largest, layer["weight_error"].get<double>());
  return largest;
}

TEST_F(Checkpoint, SearchedScalesAndLearnedTablesLeaveLessError) {
  const auto error = [&](std::vector<std::string> options) {
    options.insert(options.end(), {"--bits", "3", "--jobs", "2"});
    const Outcome outcome = quantize(std::move(options));
    EXPECT_EQ(outcome.exit_code, 0) << outcome.errors;
    return largest_error(outcome.json());
  };
  const double absmax = error({});
  const double mse = error({"--scales", "mse"});
  const double learned = error({"--method", "kmeans"});
  EXPECT_LT(mse, absmax);
  EXPECT_LT(learned, mse);
  EXPECT_LT(error({"--method", "lloyd"}), error({"--method", "lloyd", "--scales", "absmax"}));
  const double by_rule = error({"--rule", "weight=scales:mse"});
  EXPECT_EQ(by_rule, mse);
}

TEST_F(Checkpoint, EachLayerHasATableOfItsOwnThatDoesNotDependOnThreads) {
  ASSERT_EQ(quantize({"--method", "kmeans", "--bits", "2", "--jobs", "1"}).exit_code, 0);
  const std::string alone = read_file(output_);
  ASSERT_EQ(quantize({"--method", "kmeans", "--bits", "2", "--jobs", "4"}).exit_code, 0);
  EXPECT_EQ(read_file(output_), alone);
  const auto packed = SafetensorsFile::open(output_);
  ASSERT_TRUE(packed);
  EXPECT_NE(*packed->read("block.attention.weight.table"), *packed->read("block.mlp.weight.table"));
  const Outcome multiplied = program_.run({"run", output_, "--json", "--target", "sm_80"});
  ASSERT_EQ(multiplied.exit_code, 0) << multiplied.errors;
  EXPECT_TRUE(multiplied.json()["layers"][1]["right"]);
}

TEST_F(Checkpoint, WarnsOfTablesThatAreLearnedWithoutImportance) {
  const auto warning =
      testing::AllOf(HasSubstr("lutsmith: warning: "), HasSubstr("kmeans without --importance"));
  EXPECT_THAT(quantize({"--method", "kmeans", "--bits", "3"}).errors, warning);
  EXPECT_THAT(quantize({"--rule", "mlp=method:kmeans"}).errors, warning);
  EXPECT_THAT(quantize({"--method", "lloyd"}).errors, testing::Not(HasSubstr("warning")));
  const std::vector<float> of_attention(72, 1.0F);
  const std::vector<float> of_mlp(128, 1.0F);
  const std::filesystem::path file = program_.file("importance.safetensors");
  const std::vector<TensorWithBytes> tensors{
      {"block.attention.weight", "F32", {72}, std::as_bytes(std::span(of_attention))},
      {"block.mlp.weight", "F32", {128}, std::as_bytes(std::span(of_mlp))}};
  ASSERT_TRUE(write_safetensors(file, tensors, {}));
  const Outcome weighed = quantize({"--method", "kmeans", "--importance", file});
  EXPECT_EQ(weighed.exit_code, 0) << weighed.errors;
  EXPECT_THAT(weighed.errors, testing::Not(HasSubstr("warning")));
}

TEST_F(Checkpoint, ImportanceChangesWhatIsPackedAndIsCheckedByName) {
  const std::vector<float> wide(72, 1.0F);
  std::vector<float> uneven(128, 1e-3F);
  for (std::size_t i = 0; i < 128; i += 9) uneven[i] = 100;
  const std::filesystem::path file = program_.file("importance.safetensors");
  const auto with = [&](const std::string& attention, const std::vector<float>& of_mlp) {
    const std::vector<TensorWithBytes> tensors{{attention, "F32", {72}, std::as_bytes(std::span(wide))},
                                               {"block.mlp.weight",
                                                "F32",
                                                {static_cast<std::int64_t>(of_mlp.size())},
                                                std::as_bytes(std::span(of_mlp))}};
    EXPECT_TRUE(write_safetensors(file, tensors, {}));
    return quantize({"--scales", "mse", "--bits", "2", "--importance", file});
  };
  ASSERT_EQ(quantize({"--scales", "mse", "--bits", "2"}).exit_code, 0);
  const auto plain = SafetensorsFile::open(output_);
  const std::vector<std::byte> attention = *plain->read("block.attention.weight.packed");
  const std::vector<std::byte> mlp = *plain->read("block.mlp.weight.packed");
  const Outcome weighted = with("block.attention.weight", uneven);
  ASSERT_EQ(weighted.exit_code, 0) << weighted.errors;
  const auto packed = SafetensorsFile::open(output_);
  EXPECT_EQ(*packed->read("block.attention.weight.packed"), attention);  // all alike
  EXPECT_NE(*packed->read("block.mlp.weight.packed"), mlp);
  const Outcome missing = with("block.other.weight", uneven);
  EXPECT_EQ(missing.exit_code, 2);
  EXPECT_THAT(missing.errors, testing::AllOf(HasSubstr("importance"), HasSubstr("'block.attention.weight'")));
  const Outcome short_one = with("block.attention.weight", std::vector<float>(127));
  EXPECT_EQ(short_one.exit_code, 2);
  EXPECT_THAT(short_one.errors, testing::AllOf(HasSubstr("[127]"), HasSubstr("[128]")));
  const Outcome unused = quantize({"--importance", file});
  EXPECT_EQ(unused.exit_code, 2);
  EXPECT_THAT(unused.errors, testing::AllOf(HasSubstr("importance"), HasSubstr("--scales mse")));
}

TEST_F(Checkpoint, InputIsNeverOverwritten) {
  const std::string before = read_file(input_);
  std::filesystem::create_symlink(input_, program_.file("link.safetensors"));
  for (const auto& output : {input_, program_.file("link.safetensors")}) {
    EXPECT_EQ(program_.run({"quantize", input_, "-o", output}).exit_code, 2);
  }
  EXPECT_EQ(read_file(input_), before);
  EXPECT_TRUE(std::filesystem::is_symlink(program_.file("link.safetensors")));
}

TEST_F(Checkpoint, FailedWriteKeepsTheOldOutputAndLeavesNoTemporaryFile) {
  write_file(output_, "old");
  write_file(input_, read_file(input_).substr(0, 200));
  EXPECT_EQ(quantize().exit_code, 1);
  EXPECT_EQ(read_file(output_), "old");
  EXPECT_EQ(program_.run({"quantize", program_.file("none"), "-o", output_}).exit_code, 1);
  EXPECT_EQ(read_file(output_), "old");
  EXPECT_THAT(program_.files(), testing::ElementsAre("model.safetensors", "packed.safetensors"));
}

TEST_F(Checkpoint, QuantizingTwiceIsRefused) {
  ASSERT_EQ(quantize().exit_code, 0);
  const Outcome outcome = program_.run({"quantize", output_, "-o", program_.file("again.safetensors")});
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_THAT(outcome.errors, HasSubstr("quantized already"));
}

TEST_F(Checkpoint, WeightsThatAreNotNumbersAreRefusedNamingTheLayer) {
  std::vector<float> weights = values(64 * 64);
  weights[77] = NAN;
  const std::vector<TensorWithBytes> tensors{
      {"bad.weight", "F32", {64, 64}, std::as_bytes(std::span(weights))}};
  ASSERT_TRUE(write_safetensors(input_, tensors, {}));
  const Outcome outcome = quantize();
  EXPECT_NE(outcome.exit_code, 0);
  EXPECT_THAT(outcome.errors, HasSubstr("bad.weight"));
  EXPECT_FALSE(std::filesystem::exists(output_));
}

TEST_F(Checkpoint, RunRefusesAFileWithoutPackedLayers) {
  const Outcome outcome = program_.run({"run", input_, "--target", "sm_80"});
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_THAT(outcome.errors, HasSubstr("lutsmith quantize"));
}

}  // namespace
}  // namespace lutsmith::tests
