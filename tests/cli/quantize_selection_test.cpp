#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <sstream>

#include "command_line.h"
#include "lutsmith/safetensors.h"

namespace lutsmith::tests {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

struct Tensor {
  std::string name;
  std::vector<std::int64_t> shape;
  std::string dtype = "F32";
};

std::size_t bytes_of(const Tensor& tensor) {
  std::size_t bytes = tensor.dtype == "F64" ? 8 : tensor.dtype == "F32" || tensor.dtype == "I32" ? 4 : 1;
  if (tensor.dtype == "F16" || tensor.dtype == "BF16") bytes = 2;
  for (const std::int64_t side : tensor.shape) bytes *= static_cast<std::size_t>(side);
  return bytes;
}

// Numbers of both signs for F32 and F64; ones of some pattern for the rest.
std::string data_of(const Tensor& tensor) {
  std::string data(bytes_of(tensor), '\x38');
  for (std::size_t i = 0; tensor.dtype.starts_with("F64") && i < data.size() / sizeof(double); ++i) {
    const double value = std::sin(static_cast<double>(i) * 1.7) * 0.1;
    std::memcpy(data.data() + i * sizeof(value), &value, sizeof(value));
  }
  for (std::size_t i = 0; tensor.dtype == "F32" && i < data.size() / sizeof(float); ++i) {
    const auto value = static_cast<float>(std::sin(static_cast<double>(i) * 1.7) * 0.1);
    std::memcpy(data.data() + i * sizeof(value), &value, sizeof(value));
  }
  return data;
}

class Selection : public testing::Test {
 protected:
  Outcome quantize(const std::vector<Tensor>& tensors, std::vector<std::string> more = {}) const {
    std::vector<std::string> data;
    std::vector<TensorWithBytes> all;
    for (const Tensor& tensor : tensors) data.push_back(data_of(tensor));
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      all.push_back({tensors[i].name, tensors[i].dtype, tensors[i].shape, std::as_bytes(std::span(data[i]))});
    }
    const auto written = write_safetensors(input_, all, {});
    EXPECT_TRUE(written) << written.error().message;
    more.insert(more.begin(), {"quantize", input_, "-o", output_});
    return program_.run(more);
  }

  CommandLine program_;
  std::filesystem::path input_ = program_.file("model.safetensors");
  std::filesystem::path output_ = program_.file("packed.safetensors");
};

const std::string kUp = "model.layers.0.mlp.up_proj.weight";

std::vector<std::string> names(const nlohmann::json& tensors) {
  std::vector<std::string> result;
  for (const auto& tensor : tensors) result.push_back(tensor["name"]);
  return result;
}

TEST_F(Selection, LongNameAndNestedRepetitionAreMatchedWithoutCrashAndInNoTime) {
  const std::string name = std::string(40'000, 'a') + ".weight";
  for (const char* expression : {".*weight", "(a+)+b$|weight$"}) {
    const Outcome outcome = quantize({{name, {64, 64}}}, {"--layers", expression});
    EXPECT_EQ(outcome.exit_code, 0) << outcome.errors.substr(0, 300);
    EXPECT_LT(outcome.output.size(), 2000U);
  }
  EXPECT_EQ(quantize({{std::string(40, 'a'), {64, 64}}}, {"--layers", "(a+)+b$"}).exit_code, 2);
}

TEST_F(Selection, ControlCharactersOfNamesNeverReachTheTerminal) {
  const std::string name = "\x1b[2J\x1b]0;title\x07.weight";
  const std::vector<std::vector<std::string>> cases{{},
                                                    {"--all"},
                                                    {"--layers", "nothing"},
                                                    {"--layers", "*.weight"},
                                                    {"--rule", "nothing=bits:3"},
                                                    {"--skip", "title"}};
  for (const auto& options : cases) {
    const Outcome outcome =
        quantize({{name, {64, 64}}, {"new\nline.weight", {64, 64}}, {"\x1b.bias", {64}}}, options);
    for (const std::string& text : {outcome.output, outcome.errors}) {
      EXPECT_THAT(text, AllOf(Not(HasSubstr("\x1b")), Not(HasSubstr("\x07")), Not(HasSubstr("new\nline"))));
    }
  }
  EXPECT_THAT(quantize({{name, {64, 64}}}).output, HasSubstr("\\x1b[2J\\x1b]0;title\\x07.weight"));
}

TEST_F(Selection, WildcardIsAnsweredWithTheRegularExpressionAndNames) {
  for (const auto& options : std::vector<std::vector<std::string>>{
           {"--layers", "*.weight"}, {"--skip", "*.weight"}, {"--rule", "*.weight=bits:3"}}) {
    const Outcome outcome = quantize({{kUp, {64, 64}}, {"norm.bias", {64}}}, options);
    EXPECT_EQ(outcome.exit_code, 2);
    EXPECT_THAT(outcome.errors, AllOf(HasSubstr("regular expression"), HasSubstr("'.*\\.weight$'"),
                                      HasSubstr("1 of the names: " + kUp)));
  }
  EXPECT_EQ(quantize({{kUp, {64, 64}}}, {"--layers", ".*\\.weight$"}).exit_code, 0);
}

TEST_F(Selection, RuleWithAWrongSettingIsNotAnsweredWithAWildcard) {
  const Outcome outcome = quantize({{kUp, {64, 64}}}, {"--rule", "model.*=bits:x"});
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_THAT(outcome.errors, AllOf(HasSubstr("'x'"), Not(HasSubstr("wildcard"))));
}

TEST_F(Selection, LayerWhoseNewNameIsTakenIsNamedAndNotTheTensorThatTookIt) {
  const std::string taken = kUp + ".packed";
  for (const std::string& packed_name : {taken, kUp + ".table"}) {
    const Outcome outcome = quantize({{kUp, {64, 64}}, {packed_name, {8}}});
    EXPECT_EQ(outcome.exit_code, 2);
    EXPECT_THAT(outcome.errors, AllOf(HasSubstr("layer '" + kUp + "' would become"),
                                      HasSubstr("become '" + packed_name + "'")));
  }
  const Outcome both =
      quantize({{"m.experts.w", {2, 64, 64}}, {"m.experts.w.1", {64, 64}}}, {"--layers", "experts"});
  EXPECT_EQ(both.exit_code, 2);
  EXPECT_THAT(both.errors, AllOf(HasSubstr("'m.experts.w'"), HasSubstr("'m.experts.w.1'"),
                                 HasSubstr("'m.experts.w.1.packed'")));
}

TEST_F(Selection, DoublePrecisionLayerIsQuantized) {
  const Outcome outcome = quantize({{"layer.weight", {64, 64}, "F64"}}, {"--json"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.errors;
  EXPECT_EQ(outcome.json()["bytes_before"], 64 * 64 * 8);
  EXPECT_LT(outcome.json()["layers"][0]["weight_error"], 0.15);
  EXPECT_EQ(program_.run({"run", output_, "--m", "1", "--target", "sm_80"}).exit_code, 0);
}

TEST_F(Selection, QuantizedCheckpointIsRefusedNamingTensorTypeAndWhatToDo) {
  const std::vector<std::pair<std::string, std::vector<Tensor>>> cases{
      {"fp8", {{kUp, {64, 64}, "F8_E4M3"}, {kUp + "_scale_inv", {1, 1}}}},
      {"GPTQ", {{"m.qweight", {8, 64}, "I32"}, {"m.qzeros", {1, 8}, "I32"}, {"m.scales", {64, 64}, "F16"}}},
      {"bitsandbytes 4-bit",
       {{kUp, {2048, 1}, "U8"}, {kUp + ".absmax", {64, 64}}, {kUp + ".quant_map", {16}}}}};
  for (const auto& [format, tensors] : cases) {
    for (const auto& options : std::vector<std::vector<std::string>>{{}, {"--layers", ".*"}}) {
      const Outcome outcome = quantize(tensors, options);
      EXPECT_EQ(outcome.exit_code, 2) << format;
      EXPECT_THAT(outcome.errors, AllOf(HasSubstr("quantized already as " + format), HasSubstr("16")));
      EXPECT_FALSE(std::filesystem::exists(output_)) << format;
    }
  }
}

TEST_F(Selection, LayersThatCannotBeTakenAreToldBesideThoseThatAre) {
  const std::vector<Tensor> tensors{{kUp, {64, 64}, "F8_E4M3"},
                                    {kUp + "_scale_inv", {1, 8}},
                                    {"model.layers.0.self_attn.q_proj.weight", {64, 64}},
                                    {"odd.weight", {64, 100}}};
  const Outcome text = quantize(tensors, {"--layers", ".*"});
  ASSERT_EQ(text.exit_code, 0) << text.errors;
  EXPECT_THAT(text.output, AllOf(HasSubstr("quantized already (fp8)"), HasSubstr("F8_E4M3 [64, 64]"),
                                 HasSubstr("convert it to bf16 first"), HasSubstr("k not a multiple of 8"),
                                 HasSubstr("--layers matches 2 tensors that cannot be quantized")));
  const auto json = quantize(tensors, {"--json"}).json();
  EXPECT_THAT(names(json["layers"]), ElementsAre("model.layers.0.self_attn.q_proj.weight"));
  EXPECT_THAT(names(json["left_alone"]), ElementsAre(kUp, kUp + "_scale_inv", "odd.weight"));
  EXPECT_EQ(json["left_alone"][0]["reason"], "quantized_already");
  EXPECT_EQ(json["left_alone"][0]["format"], "fp8");
  EXPECT_EQ(json["total_bytes_before"], 64 * 64 + 32 + 64 * 64 * 4 + 64 * 100 * 4);
  EXPECT_GT(json["total_bytes_after"], 64 * 64 + 32 + 64 * 100 * 4);
}

TEST_F(Selection, EveryExpertOfAStackBecomesALayerThatRunMultipliesWith) {
  const std::string stack = "model.layers.0.mlp.experts.gate_up_proj";
  const Outcome outcome = quantize({{stack, {2, 64, 32}}}, {"--json"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.errors;
  const auto json = outcome.json();
  EXPECT_THAT(names(json["layers"]), ElementsAre(stack + ".0", stack + ".1"));
  EXPECT_EQ(json["layers"][1]["expert"], 1);
  EXPECT_EQ(json["layers"][1]["source"], stack);
  const auto packed = SafetensorsFile::open(output_);
  ASSERT_TRUE(packed);
  EXPECT_FALSE(packed->tensors().contains(stack));
  EXPECT_TRUE(packed->tensors().contains(stack + ".1.packed"));
  // Each expert is its own part of the stack: as if it had been a matrix.
  const auto first = packed->read(stack + ".0.packed");
  const auto second = packed->read(stack + ".1.packed");
  ASSERT_TRUE(first && second);
  EXPECT_NE(*first, *second);
  const Outcome run = program_.run({"run", output_, "--json", "--m", "1", "--target", "sm_80"});
  EXPECT_EQ(run.exit_code, 0) << run.errors;
  EXPECT_EQ(run.json()["layers"].size(), 2U);
}

TEST_F(Selection, RoutersHeadsEmbeddingsAndLoraFactorsStayUnlessAskedFor) {
  const std::vector<Tensor> tensors{{kUp, {64, 64}},
                                    {"lm_head.weight", {64, 64}},
                                    {"model.layers.0.mlp.gate.weight", {64, 64}},
                                    {"transformer.wte.weight", {64, 64}},
                                    {"q.lora_A.weight", {64, 64}}};
  const Outcome text = quantize(tensors);
  ASSERT_EQ(text.exit_code, 0) << text.errors;
  EXPECT_THAT(text.output, AllOf(HasSubstr("routers"), HasSubstr("output heads"), HasSubstr("embeddings"),
                                 HasSubstr("LoRA factors"), HasSubstr("--layers")));
  EXPECT_THAT(names(quantize(tensors, {"--json"}).json()["layers"]), ElementsAre(kUp));
  EXPECT_THAT(names(quantize(tensors, {"--json", "--layers", "gate|wte"}).json()["layers"]),
              ElementsAre("model.layers.0.mlp.gate.weight", "transformer.wte.weight"));
}

TEST_F(Selection, LayersSelectsAndSkipTakesFromIt) {
  const std::vector<Tensor> tensors{
      {"a.one.weight", {64, 64}}, {"a.two.weight", {64, 64}}, {"b.weight", {64, 64}}};
  EXPECT_THAT(names(quantize(tensors, {"--json", "--layers", "^a", "--skip", "two"}).json()["layers"]),
              ElementsAre("a.one.weight"));
  EXPECT_THAT(names(quantize(tensors, {"--json", "--skip", "two"}).json()["layers"]),
              ElementsAre("a.one.weight", "b.weight"));
  EXPECT_EQ(quantize(tensors, {"--skip", "no such"}).exit_code, 2);
  EXPECT_EQ(quantize(tensors, {"--skip", ".*"}).exit_code, 2);
}

TEST_F(Selection, RulesMixWidthsInOneFileThatRunReads) {
  const std::vector<Tensor> tensors{{"down_proj.weight", {64, 128}}, {"up_proj.weight", {64, 128}}};
  const Outcome outcome = quantize(
      tensors, {"--json", "--rule", "proj=group:128", "--rule", "down_proj=bits:3,group:64,dtype:bf16"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.errors;
  const auto layers = outcome.json()["layers"];
  EXPECT_EQ(layers[0]["bits"], 3);
  EXPECT_EQ(layers[0]["group"], 64);
  EXPECT_EQ(layers[0]["dtype"], "bf16");
  EXPECT_EQ(layers[1]["bits"], 4);
  EXPECT_EQ(layers[1]["group"], 128);
  const Outcome run = program_.run({"run", output_, "--m", "1", "--target", "sm_80"});
  EXPECT_EQ(run.exit_code, 0) << run.errors;
  for (const char* bad : {"down_porj=bits:3", "down=bits:9", "down", "down=bits:3,width:2"}) {
    EXPECT_EQ(quantize(tensors, {"--rule", bad}).exit_code, 2) << bad;
  }
}

TEST_F(Selection, ResultFitsOneScreenHoweverManyLayersThereAre) {
  std::vector<Tensor> tensors{{"model.embed_tokens.weight", {64, 64}}, {"lm_head.weight", {64, 64}}};
  for (int layer = 0; layer < 12; ++layer) {
    for (const char* kind : {"self_attn.q_proj", "self_attn.k_proj", "self_attn.o_proj", "mlp.down_proj"}) {
      tensors.push_back({"model.layers." + std::to_string(layer) + "." + kind + ".weight", {64, 64}});
    }
    tensors.push_back({"model.layers." + std::to_string(layer) + ".norm.weight", {64}});
  }
  // Longer than the column of names, as wide as it, and with wide figures.
  tensors.push_back({"encoder.layer.0.attention.output.dense.weight", {1536, 384}});
  tensors.push_back({"encoder.layer.0.attention.self.query0.weight", {1536, 384}});
  const Outcome outcome = quantize(tensors);
  ASSERT_EQ(outcome.exit_code, 0) << outcome.errors;
  EXPECT_LE(std::ranges::count(outcome.output, '\n'), 24);
  EXPECT_THAT(outcome.output,
              AllOf(HasSubstr("model.layers.*.mlp.down_proj.weight"), HasSubstr("50 layers")));
  std::istringstream lines(outcome.output);
  for (std::string line; std::getline(lines, line);) {
    if (line.contains(output_.string())) continue;
    EXPECT_LE(line.size(), 100U) << line;
  }
  EXPECT_THAT(quantize(tensors, {"--all"}).output, HasSubstr("model.layers.11.mlp.down_proj.weight"));
}

}  // namespace
}  // namespace lutsmith::tests
