#include "cli/verbs/quantize/tensor_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

namespace lutsmith::cli {
namespace {

using testing::AllOf;
using testing::HasSubstr;

using Tensors = std::map<std::string, TensorInfo>;
using Shape = std::vector<std::int64_t>;

TensorInfo tensor(const std::string& dtype, const Shape& shape) {
  std::uint64_t bytes = dtype == "F32" || dtype == "I32" ? 4 : dtype == "F64" || dtype == "I64" ? 8 : 2;
  if (dtype.starts_with("F8") || dtype == "U8" || dtype == "I8") bytes = 1;
  for (const std::int64_t side : shape) bytes *= static_cast<std::uint64_t>(side);
  return {dtype, shape, bytes};
}

NamePattern pattern(const std::string& expression) {
  auto result = NamePattern::parse("layers", expression);
  if (!result) std::abort();
  return *std::move(result);
}

LayerRule rule(const std::string& text) {
  auto result = parse_layer_rule(text);
  if (!result) std::abort();
  return *std::move(result);
}

/// Name -> "quantized" or the code of the reason.
std::map<std::string, std::string> fates(const Tensors& tensors, const PlanOptions& options = {}) {
  const auto plan = plan_tensors(tensors, options);
  if (!plan) return {{"error", plan.error().message + "\n" + plan.error().context}};
  std::map<std::string, std::string> result;
  for (const TensorDecision& decision : *plan) {
    result[decision.name] =
        decision.left_alone ? std::string(text_of(*decision.left_alone).code) : "quantized";
  }
  return result;
}

std::string refusal(const Tensors& tensors, const PlanOptions& options = {}) {
  return fates(tensors, options)["error"];
}

LayerSettings settings(const Tensors& tensors, const PlanOptions& options, const std::string& name) {
  const auto plan = plan_tensors(tensors, options);
  if (!plan) {
    ADD_FAILURE() << plan.error().message;
    return {};
  }
  return std::ranges::find(*plan, name, &TensorDecision::name)->settings;
}

const TensorInfo kLayer = tensor("BF16", {64, 64});
const std::string kUp = "model.layers.0.mlp.up_proj.weight";

TEST(TensorPlan, LinearLayersAreQuantizedAndTheRestIsNot) {
  const auto found = fates({{kUp, kLayer},
                            {"a.bias", tensor("BF16", {64})},
                            {"experts.down_proj_bias", tensor("BF16", {64, 64})},
                            {"norm.weight", tensor("BF16", {64})},
                            {"small.weight", tensor("BF16", {8, 64})},
                            {"odd.weight", tensor("BF16", {64, 100})},
                            {"rotary.inv_freq", tensor("F32", {64, 64})},
                            {"conv.weight", tensor("F16", {64, 64, 3, 3})},
                            {"position_ids", tensor("I64", {1, 512})},
                            {"double.weight", tensor("F64", {64, 64})}});
  EXPECT_EQ(found.at(kUp), "quantized");
  EXPECT_EQ(found.at("double.weight"), "quantized");
  EXPECT_EQ(found.at("a.bias"), "vector");
  EXPECT_EQ(found.at("experts.down_proj_bias"), "vector");
  EXPECT_EQ(found.at("norm.weight"), "vector");
  EXPECT_EQ(found.at("small.weight"), "too_small");
  EXPECT_EQ(found.at("odd.weight"), "odd_k");
  EXPECT_EQ(found.at("rotary.inv_freq"), "other_name");
  EXPECT_EQ(found.at("conv.weight"), "many_dimensions");
  EXPECT_EQ(found.at("position_ids"), "other_type");
}

TEST(TensorPlan, WhatModelsKeepIn16BitsIsLeftAloneByAnyOfItsNames) {
  const std::vector<std::pair<std::string, std::string>> cases{
      {"model.layers.0.mlp.gate.weight", "router"},
      {"model.layers.0.block_sparse_moe.gate.weight", "router"},
      {"model.layers.0.feed_forward.router.weight", "router"},
      {"model.layers.0.mlp.router.classifier.weight", "router"},
      {"model.layers.0.mlp.shared_expert_gate.weight", "router"},
      {"model.layers.0.mlp.gate.wg.weight", "router"},
      {"lm_head.weight", "output_head"},
      {"lm_head.linear.weight", "output_head"},
      {"embed_out.weight", "output_head"},
      {"output.weight", "output_head"},
      {"score.weight", "output_head"},
      {"classifier.out_proj.weight", "output_head"},
      {"model.embed_tokens.weight", "embedding"},
      {"transformer.wte.weight", "embedding"},
      {"transformer.wpe.weight", "embedding"},
      {"shared.weight", "embedding"},
      {"tok_embeddings.weight", "embedding"},
      {"vision.patch_embed.proj.weight", "embedding"},
      {"bert.embeddings.token_type_embeddings.weight", "embedding"},
      {"base_model.model.layers.0.self_attn.q_proj.lora_A.weight", "lora_factor"},
      {"base_model.model.layers.0.self_attn.q_proj.lora_B.default.weight", "lora_factor"},
      {"model.layers.0.mlp.gate_proj.weight", "quantized"},
      {"model.layers.0.mlp.shared_expert.up_proj.weight", "quantized"},
      {"bert.encoder.layer.0.output.dense.weight", "quantized"},
      {"decoder.block.0.layer.0.SelfAttention.q.weight", "quantized"}};
  Tensors tensors;
  for (const auto& [name, fate] : cases) tensors[name] = kLayer;
  const auto found = fates(tensors);
  for (const auto& [name, fate] : cases) EXPECT_EQ(found.at(name), fate) << name;
}

TEST(TensorPlan, LayersAsksForWhatIsLeftAloneByDefaultAndSkipTakesFromIt) {
  const Tensors tensors{{kUp, kLayer}, {"lm_head.weight", kLayer}, {"model.embed_tokens.weight", kLayer}};
  PlanOptions options{.layers = pattern("lm_head|mlp"), .skip = {}, .rules = {}, .settings = {}};
  auto found = fates(tensors, options);
  EXPECT_EQ(found.at("lm_head.weight"), "quantized");
  EXPECT_EQ(found.at(kUp), "quantized");
  EXPECT_EQ(found.at("model.embed_tokens.weight"), "not_selected");
  options.skip = pattern("mlp");
  found = fates(tensors, options);
  EXPECT_EQ(found.at("lm_head.weight"), "quantized");
  EXPECT_EQ(found.at(kUp), "skipped");
}

TEST(TensorPlan, SkipWorksWithoutLayersToo) {
  const Tensors tensors{{"a.weight", kLayer}, {"b.weight", kLayer}};
  const PlanOptions options{.layers = {}, .skip = pattern("^a"), .rules = {}, .settings = {}};
  EXPECT_EQ(fates(tensors, options).at("a.weight"), "skipped");
  EXPECT_EQ(fates(tensors, options).at("b.weight"), "quantized");
}

TEST(TensorPlan, RuleOfItsOwnAsksForATensorAndARuleAboutItsNeighboursDoesNot) {
  const std::string gate = "model.layers.0.mlp.gate.weight";
  const Tensors tensors{{kUp, kLayer}, {gate, kLayer}, {"lm_head.weight", kLayer}};
  const PlanOptions options{.layers = {},
                            .skip = {},
                            .rules = {rule("layers\\.0\\.=bits:3"), rule("lm_head=group:32")},
                            .settings = {}};
  const auto found = fates(tensors, options);
  EXPECT_EQ(found.at(gate), "router");
  EXPECT_EQ(found.at("lm_head.weight"), "quantized");
  EXPECT_EQ(settings(tensors, options, kUp).bits, 3);
  EXPECT_EQ(settings(tensors, options, "lm_head.weight").group, 32);
  EXPECT_EQ(settings(tensors, options, "lm_head.weight").bits, 4);
}

TEST(TensorPlan, OfSeveralRulesTheLaterOneCountsForEachKey) {
  const Tensors tensors{{"a=b.weight", kLayer}, {"c.weight", kLayer}};
  const PlanOptions options{
      .layers = {},
      .skip = {},
      .rules = {rule("weight=bits:3,group:128"), rule("a=b=bits:2,method:int,dtype:bf16")},
      .settings = {}};
  EXPECT_EQ(settings(tensors, options, "a=b.weight"), (LayerSettings{"int", 2, 128, DataType::bf16}));
  EXPECT_EQ(settings(tensors, options, "c.weight"), (LayerSettings{"nf", 3, 128, DataType::f16}));
}

TEST(TensorPlan, RuleThatChangesNothingOrHasNoKernelIsRefused) {
  const Tensors tensors{{kUp, kLayer}, {"q.weight", tensor("F8_E4M3", {64, 64})}};
  const auto with = [&](const std::string& text) {
    return refusal(tensors, {.layers = {}, .skip = {}, .rules = {rule(text)}, .settings = {}});
  };
  EXPECT_THAT(with("down_porj=bits:3"), HasSubstr("rule: no tensor's name matches 'down_porj'"));
  EXPECT_THAT(with("^q=bits:3"),
              AllOf(HasSubstr("rule: nothing that '^q=bits:3' matches"), HasSubstr("fp8")));
  EXPECT_THAT(with("up=bits:9"), AllOf(HasSubstr(kUp), HasSubstr("bits")));
  EXPECT_THAT(with("up=method:fp,bits:3"), HasSubstr("bits"));
}

TEST(LayerRule, WhatCannotBeReadIsRefusedWithItsReason) {
  for (const auto& [text, reason] :
       std::vector<std::pair<std::string, std::string>>{{"down_proj", "there is no '='"},
                                                        {"=bits:3", "empty"},
                                                        {"a=", "sets nothing"},
                                                        {"a=bits", "no ':'"},
                                                        {"a=bits:x", "'x'"},
                                                        {"a=bits:3,bits:4", "twice"},
                                                        {"a=width:3", "'width' is no key"},
                                                        {"a=group:48x", "48x"},
                                                        {"(=bits:3", "missing )"}}) {
    const auto parsed = parse_layer_rule(text);
    ASSERT_FALSE(parsed) << text;
    EXPECT_THAT(parsed.error().message, AllOf(HasSubstr("rule: "), HasSubstr(reason))) << text;
  }
}

TEST(TensorPlan, MatrixThatNoKernelIsLargeEnoughForIsLeftAloneAlsoWhenNamed) {
  const std::int64_t most = 1 << 24;
  const Tensors tensors{{"n.weight", tensor("BF16", {most, 64})},
                        {"n_more.weight", tensor("BF16", {most + 1, 64})},
                        {"k.weight", tensor("BF16", {64, most})},
                        {"k_more.weight", tensor("BF16", {64, most + 8})}};
  for (const bool named : {false, true}) {
    PlanOptions options;
    if (named) options.layers = pattern(".*");
    const auto found = fates(tensors, options);
    EXPECT_EQ(found.at("n.weight"), "quantized");
    EXPECT_EQ(found.at("k.weight"), "quantized");
    EXPECT_EQ(found.at("n_more.weight"), "too_large");
    EXPECT_EQ(found.at("k_more.weight"), "too_large");
  }
  EXPECT_THAT(refusal({{"n_more.weight", tensor("BF16", {most + 1, 64})}}),
              AllOf(HasSubstr("too large"), HasSubstr("n_more.weight"), HasSubstr("up to 16777216")));
}

TEST(TensorPlan, FloatingMatrixWithScalesBesideItIsNotTakenForMlx) {
  const Tensors tensors{{"m.weight", kLayer}, {"m.scales", tensor("BF16", {64})}};
  EXPECT_EQ(fates(tensors).at("m.weight"), "quantized");
}

TEST(TensorPlan, StacksOfExpertsAreLayersAndConvolutionsAreNot) {
  const Tensors tensors{{"model.layers.0.mlp.experts.gate_up_proj", tensor("BF16", {2, 64, 32})},
                        {"model.layers.0.mlp.experts.down_proj", tensor("BF16", {2, 32, 32})},
                        {"model.layers.0.block_sparse_moe.input_linear.weight", tensor("BF16", {4, 128, 64})},
                        {"model.layers.0.mixer.conv1d.weight", tensor("BF16", {64, 1, 8})}};
  const auto plan = plan_tensors(tensors, {});
  ASSERT_TRUE(plan) << plan.error().message;
  for (const TensorDecision& decision : *plan) {
    if (decision.name.contains("conv1d")) {
      EXPECT_EQ(decision.left_alone, LeftAlone::many_dimensions);
    } else {
      EXPECT_FALSE(decision.left_alone) << decision.name;
      EXPECT_EQ(decision.experts, decision.tensor.shape[0]);
      EXPECT_EQ(decision.n, decision.tensor.shape[1]);
      EXPECT_EQ(decision.k, decision.tensor.shape[2]);
    }
  }
}

/// A layer "m" in each of the formats, with all that belongs to it.
const std::vector<std::pair<std::string, Tensors>>& quantized_layers() {
  static const std::vector<std::pair<std::string, Tensors>> layers{
      {"GPTQ",
       {{"m.qweight", tensor("I32", {8, 64})},
        {"m.qzeros", tensor("I32", {64, 64})},
        {"m.scales", tensor("F16", {64, 64})},
        {"m.g_idx", tensor("I32", {64})}}},
      {"AWQ",
       {{"m.qweight", tensor("I32", {64, 8})},
        {"m.qzeros", tensor("I32", {64, 8})},
        {"m.scales", tensor("F16", {64, 64})}}},
      {"GPTQ (Marlin)", {{"m.B", tensor("I32", {64, 64})}, {"m.s", tensor("F16", {64, 64})}}},
      {"bitsandbytes 4-bit",
       {{"m.weight", tensor("U8", {2048, 1})},
        {"m.weight.absmax", tensor("F32", {64, 64})},
        {"m.weight.quant_map", tensor("F32", {16})},
        {"m.weight.quant_state.bitsandbytes__nf4", tensor("U8", {80})}}},
      {"bitsandbytes 8-bit", {{"m.weight", tensor("I8", {64, 64})}, {"m.SCB", tensor("F32", {64})}}},
      {"fp8",
       {{"m.weight", tensor("F8_E4M3", {64, 64})},
        {"m.weight_scale_inv", tensor("F32", {64, 64})},
        {"m.input_scale", tensor("F32", {1})}}},
      {"int8", {{"m.weight", tensor("I8", {64, 64})}, {"m.weight_scale", tensor("BF16", {64, 64})}}},
      {"fp4",
       {{"m.weight", tensor("U8", {64, 32})},
        {"m.weight_scale", tensor("F8_E4M3", {64, 64})},
        {"m.weight_scale_2", tensor("F32", {1})}}},
      {"compressed-tensors",
       {{"m.weight_packed", tensor("I32", {64, 64})},
        {"m.weight_scale", tensor("BF16", {64, 64})},
        {"m.weight_shape", tensor("I64", {2})}}},
      {"integers with scales",
       {{"m.weight", tensor("I32", {64, 64})}, {"m.weight_scale", tensor("BF16", {64, 64})}}},
      {"MLX",
       {{"m.weight", tensor("U32", {64, 64})},
        {"m.scales", tensor("BF16", {64, 64})},
        {"m.biases", tensor("BF16", {64, 64})}}},
      {"VPTQ",
       {{"m.indices", tensor("I32", {1, 64, 64})},
        {"m.centroids.weight", tensor("F16", {64, 64})},
        {"m.res_centroids.weight", tensor("F16", {64, 64})},
        {"m.weight_scale", tensor("F16", {64})},
        {"m.weight_bias", tensor("F16", {64})}}},
      {"MXFP4",
       {{"m.experts.down_proj_blocks", tensor("U8", {2, 64, 2, 16})},
        {"m.experts.down_proj_scales", tensor("U8", {2, 64, 2})}}},
      {"HQQ",
       {{"m.W_q", tensor("U8", {64, 64})},
        {"m.scale", tensor("F16", {64, 64})},
        {"m.zero", tensor("F16", {64, 64})}}},
      {"AQLM",
       {{"m.codes", tensor("I8", {64, 64})},
        {"m.codebooks", tensor("F16", {64, 64})},
        {"m.scales", tensor("F16", {64, 64})}}}};
  return layers;
}

TEST(TensorPlan, WhatIsQuantizedAlreadyIsNeverQuantizedAgainAlsoNotWhenNamed) {
  for (const auto& [format, layer] : quantized_layers()) {
    Tensors tensors = layer;
    tensors["other.weight"] = kLayer;
    for (const bool named : {false, true}) {
      PlanOptions options;
      if (named) options.layers = pattern(".*");
      const auto plan = plan_tensors(tensors, options);
      ASSERT_TRUE(plan) << plan.error().message;
      for (const TensorDecision& decision : *plan) {
        if (decision.name == "other.weight") {
          EXPECT_FALSE(decision.left_alone) << format;
        } else {
          EXPECT_EQ(decision.left_alone, LeftAlone::quantized_already) << format << " " << decision.name;
          EXPECT_EQ(decision.format, format) << decision.name;
        }
      }
    }
  }
}

TEST(TensorPlan, CheckpointThatHoldsNothingElseIsRefusedNamingTensorTypeAndWhatToDo) {
  for (const auto& [format, layer] : quantized_layers()) {
    const std::string message = refusal(layer);
    EXPECT_THAT(message,
                AllOf(HasSubstr("no tensor can be quantized"), HasSubstr("quantized already as " + format),
                      HasSubstr("'m."), HasSubstr("16")));
  }
}

TEST(TensorPlan, NamingOnlyWhatCannotBeTakenIsRefusedWithTheReason) {
  const Tensors tensors{{kUp, kLayer}, {"odd.weight", tensor("BF16", {64, 100})}};
  const PlanOptions options{.layers = pattern("odd"), .skip = {}, .rules = {}, .settings = {}};
  EXPECT_THAT(refusal(tensors, options),
              AllOf(HasSubstr("layers: nothing that 'odd' matches"), HasSubstr("k not a multiple of 8"),
                    HasSubstr("BF16 [64, 100]")));
}

TEST(TensorPlan, PatternWrittenAsAWildcardIsAnsweredWithTheExpression) {
  const PlanOptions options{.layers = pattern("h.1?.weight"), .skip = {}, .rules = {}, .settings = {}};
  EXPECT_THAT(
      refusal({{"h.10.weight", kLayer}}, options),
      AllOf(HasSubstr("layers: no tensor's name matches 'h.1?.weight'"), HasSubstr("regular expression"),
            HasSubstr("'^h\\.1.\\.weight$'"), HasSubstr("h.10.weight")));
}

TEST(TensorPlan, NoNameReachesAMessageWithItsControlCharacters) {
  EXPECT_THAT(
      refusal({{"\x1b[31m.qweight", tensor("I32", {8, 64})}, {"\x1b[31m.scales", tensor("F16", {1, 64})}}),
      AllOf(HasSubstr("\\x1b[31m"), testing::Not(HasSubstr("\x1b"))));
}

}  // namespace
}  // namespace lutsmith::cli
