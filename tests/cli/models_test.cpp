#include "cli/options/models.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lutsmith::cli {
namespace {

struct Expected {
  const char* model;
  int tp;
  const char* layer;
  std::int64_t n;
  std::int64_t k;
};

class ModelShape : public testing::TestWithParam<Expected> {};

TEST_P(ModelShape, IsThatOfTheLayerInTheServedModel) {
  const auto model = find_model(GetParam().model);
  ASSERT_TRUE(model) << model.error().message;
  const auto layers = layer_shapes(*model, GetParam().tp);
  ASSERT_TRUE(layers) << layers.error().message;
  const auto layer = std::ranges::find(*layers, GetParam().layer, &LayerShape::name);
  ASSERT_NE(layer, layers->end());
  EXPECT_EQ(layer->n, GetParam().n);
  EXPECT_EQ(layer->k, GetParam().k);
}

INSTANTIATE_TEST_SUITE_P(
    Models, ModelShape,
    testing::Values(
        Expected{"llama3.1-8b", 1, "qkv", 6144, 4096}, Expected{"llama3.1-8b", 1, "o", 4096, 4096},
        Expected{"llama3.1-8b", 1, "gate_up", 28672, 4096}, Expected{"llama3.1-8b", 1, "down", 4096, 14336},
        // Cut along N and along K.
        Expected{"llama3.1-8b", 2, "qkv", 3072, 4096}, Expected{"llama3.1-8b", 2, "o", 4096, 2048},
        Expected{"llama3.1-8b", 2, "gate_up", 14336, 4096}, Expected{"llama3.1-8b", 2, "down", 4096, 7168},
        // Heads wider in sum than the model.
        Expected{"gemma2-27b", 1, "o", 4608, 4096}, Expected{"gemma2-9b", 1, "down", 3584, 14336},
        // More GPUs than key-value heads: each keeps a whole one.
        Expected{"gemma3-1b", 4, "qkv", 768, 1152}, Expected{"qwen2.5-3b", 8, "qkv", 512, 2048},
        Expected{"qwen3-30b-a3b", 8, "qkv", 768, 2048},
        // One expert's matrices.
        Expected{"mixtral-8x7b", 1, "w13", 28672, 4096}, Expected{"mixtral-8x7b", 8, "w2", 4096, 1792}));

TEST(Models, EveryModelHasPositiveShapesWithKAMultipleOfEight) {
  ASSERT_GE(models().size(), 7U);
  for (const Model& model : models()) {
    const auto layers = layer_shapes(model, 1);
    ASSERT_TRUE(layers) << model.name;
    EXPECT_EQ(layers->size(), 4U) << model.name;
    for (const LayerShape& layer : *layers) {
      EXPECT_GT(layer.n, 0) << model.name;
      EXPECT_GT(layer.k, 0) << model.name;
      EXPECT_EQ(layer.k % 8, 0) << model.name;
      EXPECT_EQ(layer.count, model.layers) << model.name;
    }
  }
}

TEST(Models, UnknownNameListsTheKnownOnes) {
  const auto model = find_model("llama3.1-9b");
  ASSERT_FALSE(model);
  EXPECT_EQ(model.error().code, ErrorCode::invalid_argument);
  for (const char* name : {"'llama3.1-9b'", "llama3.1-405b", "llama3.2-1b", "gemma2-9b"}) {
    EXPECT_THAT(model.error().message, testing::HasSubstr(name));
  }
}

TEST(Models, UnevenShareListsThePossibleOnes) {
  const auto layers = layer_shapes(*find_model("qwen2.5-0.5b"), 4);
  ASSERT_FALSE(layers);
  EXPECT_THAT(layers.error().message, testing::HasSubstr("allowed: 1, 2"));
  EXPECT_FALSE(layer_shapes(*find_model("qwen2.5-0.5b"), 0));
  EXPECT_FALSE(layer_shapes(*find_model("qwen2.5-0.5b"), -1));
}

}  // namespace
}  // namespace lutsmith::cli
