#include "checkpoint/checkpoint.h"

#include <map>

#include "checkpoint/packed_file.h"
#include "expect_error.h"
#include "temporary_directory.h"

namespace lutsmith {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

constexpr const char* kIndex = "model.safetensors.index.json";
constexpr const char* kFirst = "model-00001-of-00002.safetensors";
constexpr const char* kSecond = "model-00002-of-00002.safetensors";

class CheckpointFiles : public testing::Test {
 protected:
  /// A file of one-byte tensors, which hold the last letter of their names.
  void write_shard(const std::string& name, const std::vector<std::string>& tensors,
                   const std::map<std::string, std::string>& metadata = {}) {
    std::vector<TensorWithBytes> to_write;
    for (const std::string& tensor : tensors) {
      to_write.push_back({tensor, "U8", {1}, std::as_bytes(std::span(&tensor.back(), 1))});
    }
    const auto written = write_safetensors(path() / name, to_write, metadata);
    ASSERT_TRUE(written) << written.error().message;
  }
  void write_both_shards() {
    write_shard(kFirst, {"layer.a", "layer.c"});
    write_shard(kSecond, {"layer.b"});
  }
  void write_index(const std::string& weight_map) {
    directory_.write(kIndex, R"({"metadata":{"total_size":3},"weight_map":)" + weight_map + "}");
  }
  void write_right_index() {
    write_index(
        R"({"layer.a":"model-00001-of-00002.safetensors","layer.b":"model-00002-of-00002.safetensors",)"
        R"("layer.c":"model-00001-of-00002.safetensors"})");
  }
  const std::filesystem::path& path() const { return directory_.path(); }

  TemporaryDirectory directory_;
};

std::vector<std::string> names_of(const Checkpoint& checkpoint) {
  std::vector<std::string> names;
  for (const Shard& shard : checkpoint.shards()) names.push_back(shard.name);
  return names;
}

void expect_all_tensors(const Result<Checkpoint>& checkpoint) {
  ASSERT_TRUE(checkpoint) << checkpoint.error().message;
  EXPECT_THAT(names_of(*checkpoint), ElementsAre(kFirst, kSecond));
  ASSERT_EQ(checkpoint->tensors().size(), 3U);
  EXPECT_EQ(checkpoint->tensors().at("layer.b").shard, 1U);
  for (const char* name : {"layer.a", "layer.b", "layer.c"}) {
    const auto bytes = checkpoint->shards()[checkpoint->tensors().at(name).shard].file.read(name);
    ASSERT_TRUE(bytes) << bytes.error().message;
    EXPECT_THAT(*bytes, ElementsAre(static_cast<std::byte>(std::string(name).back())));
  }
}

TEST_F(CheckpointFiles, AnIndexJoinsItsShards) {
  write_both_shards();
  write_right_index();
  expect_all_tensors(Checkpoint::open(path() / kIndex));
}

TEST_F(CheckpointFiles, TheIndexOfAFolderIsFound) {
  write_both_shards();
  write_right_index();
  write_shard("other.safetensors", {"layer.a"});
  const auto checkpoint = Checkpoint::open(path());
  expect_all_tensors(checkpoint);
  EXPECT_EQ(checkpoint->index(), path() / kIndex);
}

TEST_F(CheckpointFiles, AnIndexWithAnotherNameIsFoundIfItIsTheOnlyOne) {
  write_both_shards();
  write_right_index();
  std::filesystem::rename(path() / kIndex, path() / "diffusion.safetensors.index.json");
  expect_all_tensors(Checkpoint::open(path()));
  std::filesystem::copy(path() / "diffusion.safetensors.index.json", path() / "x.safetensors.index.json");
  expect_error(Checkpoint::open(path()), ErrorCode::invalid_argument, "2 indices",
               "x.safetensors.index.json");
}

TEST_F(CheckpointFiles, WithoutAnIndexAFolderIsAllOfItsFiles) {
  write_both_shards();
  directory_.write(".hidden.safetensors", "x");
  directory_.write("config.json", "{}");
  const auto checkpoint = Checkpoint::open(path());
  expect_all_tensors(checkpoint);
  EXPECT_TRUE(checkpoint->index().empty());
}

TEST_F(CheckpointFiles, OneFileIsACheckpointToo) {
  write_both_shards();
  const auto checkpoint = Checkpoint::open(path() / kSecond);
  ASSERT_TRUE(checkpoint) << checkpoint.error().message;
  EXPECT_THAT(names_of(*checkpoint), ElementsAre(kSecond));
  EXPECT_EQ(checkpoint->tensors().size(), 1U);
}

TEST_F(CheckpointFiles, ShardsBehindSymbolicLinksAreRead) {
  std::filesystem::create_directory(path() / "blobs");
  write_shard("blobs/1", {"layer.a", "layer.c"});
  write_shard("blobs/2", {"layer.b"});
  std::filesystem::create_symlink("blobs/1", path() / kFirst);
  std::filesystem::create_symlink("blobs/2", path() / kSecond);
  write_right_index();
  expect_all_tensors(Checkpoint::open(path()));
}

TEST_F(CheckpointFiles, AShardThatIsMissingIsNamed) {
  write_shard(kFirst, {"layer.a", "layer.c"});
  write_right_index();
  expect_error(Checkpoint::open(path()), ErrorCode::not_found, kIndex, kSecond, "not there");
}

TEST_F(CheckpointFiles, ATensorThatItsShardLacksIsNamed) {
  write_both_shards();
  write_index(R"({"layer.z":"model-00001-of-00002.safetensors"})");
  expect_error(Checkpoint::open(path()), ErrorCode::corrupt_data, kIndex, "'layer.z'", kFirst,
               "does not hold it");
  write_index(
      R"({"layer.a":"model-00002-of-00002.safetensors","layer.c":"model-00001-of-00002.safetensors"})");
  expect_error(Checkpoint::open(path()), ErrorCode::corrupt_data, "'layer.a'", kSecond);
}

TEST_F(CheckpointFiles, ATensorInTwoShardsIsRefused) {
  write_shard("a.safetensors", {"layer.a"});
  write_shard("b.safetensors", {"layer.a", "layer.b"});
  expect_error(Checkpoint::open(path()), ErrorCode::corrupt_data, "'layer.a'", "'a.safetensors'",
               "'b.safetensors'");
}

TEST_F(CheckpointFiles, AnIndexReachesNoFileOutsideOfItsFolder) {
  write_both_shards();
  for (const std::string name : {"../x", "/etc/passwd", "a/../../x", "..", ".", "", "sub/model.safetensors",
                                 "model\\u0000.safetensors"}) {
    write_index(R"({"layer.a":")" + name + R"("})");
    expect_error(Checkpoint::open(path()), ErrorCode::corrupt_data, kIndex, "'layer.a'",
                 "not the name of a file beside the index");
  }
}

TEST_F(CheckpointFiles, WhatIsNoIndexIsRefused) {
  const auto open = [&](const std::string& text) { return Checkpoint::open(directory_.write(kIndex, text)); };
  expect_error(open(""), ErrorCode::corrupt_data, kIndex, "is empty");
  expect_error(open("{\"weight_map\":"), ErrorCode::corrupt_data, "not valid JSON");
  expect_error(open("version https://git-lfs.github.com/spec/v1\noid sha256:01\n"), ErrorCode::corrupt_data,
               "git-lfs pointer");
  expect_error(open("[]"), ErrorCode::corrupt_data, "weight_map");
  expect_error(open("{}"), ErrorCode::corrupt_data, "weight_map");
  expect_error(open(R"({"weight_map":[]})"), ErrorCode::corrupt_data, "weight_map");
  expect_error(open(R"({"weight_map":{}})"), ErrorCode::corrupt_data, "names no tensors");
  expect_error(open(R"({"weight_map":{"layer.a":1}})"), ErrorCode::corrupt_data, "'layer.a'", "not text");
  expect_error(open(std::string(200'000, '[')), ErrorCode::corrupt_data, "not valid JSON");
}

TEST_F(CheckpointFiles, AnIndexThatIsNestedWithoutEndIsRefused) {
  write_both_shards();
  const auto nested = [&](std::size_t depth) {
    const std::string value = std::string(depth, '[') + std::string(depth, ']');
    return Checkpoint::open(
        directory_.write(kIndex, R"({"metadata":{"a":)" + value +
                                     R"(},"weight_map":{"layer.b":"model-00002-of-00002.safetensors"}})"));
  };
  EXPECT_TRUE(nested(90));
  expect_error(nested(110), ErrorCode::corrupt_data, kIndex, "nested more than 100 deep");
  expect_error(nested(200'000), ErrorCode::corrupt_data, kIndex, "nested more than 100 deep");
}

TEST_F(CheckpointFiles, AnIndexOfPyTorchFilesIsNamed) {
  directory_.write("pytorch_model-00001-of-00001.bin", std::string("PK\3\4", 4) + std::string(100, '\1'));
  write_index(R"({"layer.a":"pytorch_model-00001-of-00001.bin"})");
  expect_error(Checkpoint::open(path()), ErrorCode::corrupt_data, "pytorch_model-00001-of-00001.bin",
               "PyTorch");
}

TEST_F(CheckpointFiles, AFolderWithoutACheckpointSaysWhatItHolds) {
  expect_error(Checkpoint::open(path()), ErrorCode::not_found, "no *.safetensors");
  directory_.write("pytorch_model.bin", "x");
  expect_error(Checkpoint::open(path()), ErrorCode::not_found, "no *.safetensors", "'pytorch_model.bin'",
               "convert");
  expect_error(Checkpoint::open(path() / "none"), ErrorCode::not_found, "none", "no such file");
}

TEST_F(CheckpointFiles, PackedLayersOfAllShardsAreFound) {
  const WeightFormat format{4, 64, 64, 64};
  const std::vector<std::byte> packed(*packed_bytes(format));
  const std::vector<std::byte> table(32);
  for (const auto& [file, name] : {std::pair{kFirst, "b.weight"}, std::pair{kSecond, "a.weight"}}) {
    const PackedLayer layer{.name = name, .format = format, .method = "nf", .source_dtype = "F16"};
    const TensorWithBytes tensors[] = {
        {packed_tensor_name(name), "U8", {static_cast<std::int64_t>(packed.size())}, packed},
        {table_tensor_name(name), "F16", {16}, table}};
    ASSERT_TRUE(
        write_safetensors(path() / file, tensors, {{kPackedMetadataKey, describe_layers({&layer, 1})}}));
  }
  write_shard("plain.safetensors", {"norm"});
  const auto checkpoint = Checkpoint::open(path());
  ASSERT_TRUE(checkpoint) << checkpoint.error().message;
  const auto layers = stored_layers(*checkpoint);
  ASSERT_TRUE(layers) << layers.error().message;
  ASSERT_EQ(layers->size(), 2U);
  EXPECT_EQ((*layers)[0].layer.name, "a.weight");
  EXPECT_EQ((*layers)[1].layer.name, "b.weight");
  for (const StoredLayer& layer : *layers) EXPECT_EQ(layer.read()->packed, packed);
}

TEST_F(CheckpointFiles, ShardsWithoutPackedLayersAreAWrongArgument) {
  write_both_shards();
  const auto checkpoint = Checkpoint::open(path());
  ASSERT_TRUE(checkpoint);
  expect_error(stored_layers(*checkpoint), ErrorCode::invalid_argument, "no packed layers");
}

TEST_F(CheckpointFiles, OneShardOfANewerFormatIsEnoughToSaySo) {
  write_shard(kFirst, {"layer.a"}, {{kPackedMetadataKey, "{}"}});
  write_shard(kSecond, {"layer.b"}, {{"lutsmith.packed.v2", "{}"}});
  const auto checkpoint = Checkpoint::open(path());
  ASSERT_TRUE(checkpoint);
  expect_error(stored_layers(*checkpoint), ErrorCode::unsupported, kSecond, "newer lutsmith",
               "lutsmith.packed.v2");
}

}  // namespace
}  // namespace lutsmith
