#include "checkpoint/packed_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <nlohmann/json.hpp>

#include "temporary_directory.h"

namespace lutsmith {
namespace {

using nlohmann::json;

/// The parts of a valid file with one packed layer, for tests to spoil.
struct Parts {
  std::string key = kPackedMetadataKey;
  json description;
  std::string packed_dtype = "U8";
  std::vector<std::byte> packed;
  std::string table_dtype = "F16";
  std::vector<std::uint16_t> table = std::vector<std::uint16_t>(16);
  bool with_packed = true;
  bool with_table = true;
};

const PackedLayer& valid_layer() {
  static const PackedLayer layer{"a.weight", {4, 64, 40, 72}, "nf", "F32", 0.125};
  return layer;
}

Parts valid_parts() {
  Parts parts;
  parts.description = json::parse(describe_layers({&valid_layer(), 1}));
  parts.packed.resize(*packed_bytes(valid_layer().format));
  return parts;
}

class PackedFile : public testing::Test {
 protected:
  // Writes the parts and reads the layers back.
  Result<std::vector<StoredLayer>> read(const Parts& parts) {
    std::vector<TensorWithBytes> tensors;
    const auto packed_size = static_cast<std::int64_t>(parts.packed.size());
    if (parts.with_packed)
      tensors.push_back({"a.weight.packed", parts.packed_dtype, {packed_size}, parts.packed});
    if (parts.with_table) {
      const auto length = static_cast<std::int64_t>(parts.table.size());
      tensors.push_back(
          {"a.weight.table", parts.table_dtype, {length}, std::as_bytes(std::span(parts.table))});
    }
    const auto path = directory_.path() / "packed.safetensors";
    const auto written = write_safetensors(path, tensors, {{parts.key, parts.description.dump()}});
    if (!written) return std::unexpected(written.error());
    const auto checkpoint = Checkpoint::open(path);
    if (!checkpoint) return std::unexpected(checkpoint.error());
    return stored_layers(*checkpoint);
  }

 private:
  TemporaryDirectory directory_;
};

TEST_F(PackedFile, DescriptionSurvivesWritingAndReading) {
  Parts parts = valid_parts();
  parts.packed[3] = std::byte{0x5a};
  parts.table[15] = 0x3c00;
  const auto layers = read(parts);
  ASSERT_TRUE(layers) << layers.error().message;
  ASSERT_EQ(layers->size(), 1U);
  const StoredLayer& stored = layers->front();
  EXPECT_EQ(stored.layer.name, "a.weight");
  EXPECT_EQ(stored.layer.format.bits, 4);
  EXPECT_EQ(stored.layer.format.group, 64);
  EXPECT_EQ(stored.layer.format.n, 40);
  EXPECT_EQ(stored.layer.format.k, 72);
  EXPECT_EQ(stored.layer.format.dtype, DataType::f16);
  EXPECT_EQ(stored.layer.source_dtype, "F32");
  EXPECT_EQ(stored.layer.weight_error, 0.125);
  EXPECT_EQ(stored.packed_size, parts.packed.size());
  const auto weights = stored.read();
  ASSERT_TRUE(weights) << weights.error().message;
  EXPECT_EQ(weights->packed, parts.packed);
  EXPECT_EQ(weights->table, parts.table);
}

TEST_F(PackedFile, OffsetsAreDescribedWhereThereAreSomeAndOtherDescriptionsAreAsBefore) {
  EXPECT_FALSE(valid_parts().description["a.weight"].contains("offsets"));
  PackedLayer layer = valid_layer();
  layer.format.offsets = true;
  Parts parts = valid_parts();
  parts.description = json::parse(describe_layers({&layer, 1}));
  parts.packed.resize(*packed_bytes(layer.format));
  const auto layers = read(parts);
  ASSERT_TRUE(layers) << layers.error().message;
  EXPECT_TRUE(layers->front().layer.format.offsets);
}

struct Damage {
  const char* name;
  std::function<void(Parts&)> spoil;
};

class DamagedPackedFile : public PackedFile, public testing::WithParamInterface<Damage> {};

TEST_P(DamagedPackedFile, IsCorruptData) {
  Parts parts = valid_parts();
  GetParam().spoil(parts);
  const auto layers = read(parts);
  ASSERT_FALSE(layers);
  EXPECT_EQ(layers.error().code, ErrorCode::corrupt_data) << layers.error().message;
}

INSTANTIATE_TEST_SUITE_P(
    Files, DamagedPackedFile,
    testing::Values(
        Damage{"description_is_no_object", [](Parts& parts) { parts.description = json::array(); }},
        Damage{"layer_is_no_object", [](Parts& parts) { parts.description["a.weight"] = 7; }},
        Damage{"bits_missing", [](Parts& parts) { parts.description["a.weight"].erase("bits"); }},
        Damage{"bits_not_allowed", [](Parts& parts) { parts.description["a.weight"]["bits"] = 9; }},
        Damage{"bits_beyond_int",
               [](Parts& parts) { parts.description["a.weight"]["bits"] = (1LL << 32) + 4; }},
        Damage{"group_not_allowed", [](Parts& parts) { parts.description["a.weight"]["group"] = 48; }},
        Damage{"group_zero", [](Parts& parts) { parts.description["a.weight"]["group"] = 0; }},
        Damage{"n_negative", [](Parts& parts) { parts.description["a.weight"]["n"] = -40; }},
        Damage{"n_larger_than_the_bytes", [](Parts& parts) { parts.description["a.weight"]["n"] = 400; }},
        Damage{"offsets_that_its_bytes_do_not_have",
               [](Parts& parts) { parts.description["a.weight"]["offsets"] = true; }},
        Damage{"offsets_are_a_number", [](Parts& parts) { parts.description["a.weight"]["offsets"] = 1; }},
        Damage{"k_is_text", [](Parts& parts) { parts.description["a.weight"]["k"] = "72"; }},
        Damage{"dtype_unknown", [](Parts& parts) { parts.description["a.weight"]["dtype"] = "f64"; }},
        Damage{"dtype_of_the_table_differs",
               [](Parts& parts) { parts.description["a.weight"]["dtype"] = "bf16"; }},
        Damage{"packed_missing", [](Parts& parts) { parts.with_packed = false; }},
        Damage{"packed_short", [](Parts& parts) { parts.packed.pop_back(); }},
        Damage{"packed_of_another_type", [](Parts& parts) { parts.packed_dtype = "I8"; }},
        Damage{"table_missing", [](Parts& parts) { parts.with_table = false; }},
        Damage{"table_short", [](Parts& parts) { parts.table.resize(8); }},
        Damage{"table_of_another_type", [](Parts& parts) { parts.table_dtype = "BF16"; }}),
    [](const auto& instance) { return std::string(instance.param.name); });

TEST_F(PackedFile, AFileOfANewerFormatIsToldFromADamagedOne) {
  Parts parts = valid_parts();
  parts.key = "lutsmith.packed.v2";
  const auto layers = read(parts);
  ASSERT_FALSE(layers);
  EXPECT_EQ(layers.error().code, ErrorCode::unsupported);
  EXPECT_THAT(layers.error().message, testing::HasSubstr("packed by a newer lutsmith"));
  EXPECT_THAT(layers.error().message, testing::HasSubstr("lutsmith.packed.v2"));
}

TEST_F(PackedFile, AFormatThatIsNotOfALaterNumberIsNotCalledNewer) {
  Parts parts = valid_parts();
  for (const char* key : {"lutsmith.packed.v0", "lutsmith.packed.v1-draft", "lutsmith.packed.v",
                          "lutsmith.packed.vnext", "lutsmith.packed.v01"}) {
    parts.key = key;
    const auto layers = read(parts);
    ASSERT_FALSE(layers);
    EXPECT_EQ(layers.error().code, ErrorCode::unsupported);
    EXPECT_THAT(
        layers.error().message,
        testing::AllOf(testing::HasSubstr("packed by another version of lutsmith"), testing::HasSubstr(key)));
  }
  for (const char* key : {"lutsmith.packed.v10", "lutsmith.packed.v99999999999999999999"}) {
    parts.key = key;
    EXPECT_THAT(read(parts).error().message, testing::HasSubstr("packed by a newer lutsmith")) << key;
  }
}

TEST_F(PackedFile, AFileWithoutPackedLayersIsAWrongArgument) {
  Parts parts = valid_parts();
  parts.key = "format";
  const auto layers = read(parts);
  ASSERT_FALSE(layers);
  EXPECT_EQ(layers.error().code, ErrorCode::invalid_argument);
}

TEST_F(PackedFile, PerChannelGroupIsWrittenAsAWord) {
  PackedLayer layer = valid_layer();
  layer.format.group = kPerChannel;
  Parts parts = valid_parts();
  parts.description = json::parse(describe_layers({&layer, 1}));
  parts.packed.resize(*packed_bytes(layer.format));
  EXPECT_EQ(parts.description["a.weight"]["group"], "channel");
  const auto layers = read(parts);
  ASSERT_TRUE(layers) << layers.error().message;
  EXPECT_EQ(layers->front().layer.format.group, kPerChannel);
}

}  // namespace
}  // namespace lutsmith
