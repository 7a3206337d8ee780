#include "cli/verbs/run/layer_kinds.h"

#include <gtest/gtest.h>

#include <cmath>

namespace lutsmith::cli {
namespace {

LayerBytes layer(const std::string& name, std::int64_t n, std::int64_t k, double error = 0.1) {
  LayerBytes result;
  result.layer.name = name;
  result.layer.format = {.bits = 4, .group = 64, .n = n, .k = k};
  result.layer.weight_error = error;
  result.before = static_cast<std::uint64_t>(2 * n * k);
  result.after = static_cast<std::uint64_t>(n * k / 2);
  return result;
}

TEST(LayerKinds, NumbersBetweenDotsAreWhatLayersOfAKindDifferIn) {
  EXPECT_EQ(name_of_kind("model.layers.31.mlp.up_proj.weight"), "model.layers.*.mlp.up_proj.weight");
  EXPECT_EQ(name_of_kind("blocks.3.layer.0.q"), "blocks.*.layer.*.q");
  EXPECT_EQ(name_of_kind("encoder/12/dense"), "encoder/*/dense");
  EXPECT_EQ(name_of_kind("7"), "*");
  EXPECT_EQ(name_of_kind(""), "");
  EXPECT_EQ(name_of_kind("h..1."), "h..*.");
}

TEST(LayerKinds, ANumberThatIsPartOfAWordIsNoIndex) {
  EXPECT_EQ(name_of_kind("layers.1.fc1.weight"), "layers.*.fc1.weight");
  EXPECT_NE(name_of_kind("fc1.weight"), name_of_kind("fc2.weight"));
}

TEST(LayerKinds, SumsBytesAndKeepsTheWorstError) {
  const std::vector<LayerBytes> layers{layer("l.0.q", 64, 64, 0.1), layer("l.0.up", 128, 64),
                                       layer("l.1.q", 64, 64, 0.3), layer("l.2.q", 64, 64, 0.2)};
  const auto kinds = layer_kinds(layers);
  ASSERT_EQ(kinds.size(), 2U);
  EXPECT_EQ(kinds[0].name, "l.*.q");
  EXPECT_EQ(kinds[0].layers, (std::vector<std::size_t>{0, 2, 3}));
  EXPECT_EQ(kinds[0].before, 3U * 2 * 64 * 64);
  EXPECT_EQ(kinds[0].after, 3U * 64 * 64 / 2);
  EXPECT_EQ(kinds[0].weight_error, 0.3);
}

TEST(LayerKinds, AKindOfOneLayerKeepsItsName) {
  const std::vector<LayerBytes> layers{layer("l.0.q", 64, 64), layer("l.7.only", 64, 64)};
  EXPECT_EQ(layer_kinds(layers)[1].name, "l.7.only");
}

TEST(LayerKinds, LayersOfOneNameAndTwoShapesAreTwoKinds) {
  const std::vector<LayerBytes> layers{layer("l.0.q", 64, 64), layer("l.1.q", 64, 128),
                                       layer("l.2.q", 64, 64), layer("l.3.q", 64, 128)};
  EXPECT_EQ(layer_kinds(layers).size(), 2U);
}

TEST(LayerKinds, LayersOfOneNameQuantizedInTwoWaysAreTwoKinds) {
  for (const auto& change :
       std::vector<void (*)(PackedLayer&)>{[](PackedLayer& layer) { layer.method = "fp"; },
                                           [](PackedLayer& layer) { layer.format.dtype = DataType::bf16; },
                                           [](PackedLayer& layer) { layer.format.table = TableKind::pair; },
                                           [](PackedLayer& layer) { layer.format.bits = 3; },
                                           [](PackedLayer& layer) { layer.format.group = 32; }}) {
    std::vector<LayerBytes> layers{layer("l.0.q", 64, 64), layer("l.1.q", 64, 64), layer("l.2.q", 64, 64)};
    change(layers[1].layer);
    EXPECT_EQ(layer_kinds(layers).size(), 2U);
  }
}

TEST(LayerKinds, AnErrorThatIsNoNumberIsNeverHiddenByOneThatIs) {
  const std::vector<LayerBytes> layers{layer("l.0.q", 64, 64, 0.1), layer("l.1.q", 64, 64, std::nan("")),
                                       layer("l.2.q", 64, 64, 0.2)};
  EXPECT_TRUE(std::isnan(layer_kinds(layers)[0].weight_error));
}

}  // namespace
}  // namespace lutsmith::cli
