#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "command_line.h"
#include "lutsmith/safetensors.h"
#include "mounts.h"

namespace lutsmith::tests {
namespace {

namespace fs = std::filesystem;

using testing::ElementsAre;
using testing::HasSubstr;

std::vector<float> values(std::size_t count, double size = 0.1) {
  std::vector<float> result(count);
  for (std::size_t i = 0; i < count; ++i) {
    result[i] = static_cast<float>(std::sin(static_cast<double>(i) * 1.7) * size);
  }
  return result;
}

/// A folder "model" with two shards and their index; each shard has one layer.
class Shards : public testing::Test {
 protected:
  void SetUp() override {
    fs::create_directory(folder_);
    write(folder_ / "model-00001-of-00002.safetensors", "layers.0.weight", weights_,
          {"norm.weight", "F32", {8}, norm_});
    write(folder_ / "model-00002-of-00002.safetensors", "layers.1.weight", weights_,
          {"norm2.weight", "F32", {8}, norm_});
    write_file(folder_ / "model.safetensors.index.json",
               R"({"metadata": {"total_size": 1, "total_parameters": 7}, "weight_map": {
                   "layers.0.weight": "model-00001-of-00002.safetensors",
                   "norm.weight": "model-00001-of-00002.safetensors",
                   "layers.1.weight": "model-00002-of-00002.safetensors",
                   "norm2.weight": "model-00002-of-00002.safetensors"}})");
  }

  static void write(const fs::path& path, const std::string& name, const std::vector<float>& weights,
                    const TensorWithBytes& more) {
    const std::vector<TensorWithBytes> tensors{{name, "F32", {64, 128}, std::as_bytes(std::span(weights))},
                                               more};
    const auto written = write_safetensors(path, tensors, {{"format", "pt"}});
    ASSERT_TRUE(written) << written.error().message;
  }

  static std::vector<std::string> names_in(const fs::path& folder) {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename());
    std::ranges::sort(names);
    return names;
  }

  CommandLine program_;
  fs::path folder_ = program_.file("model");
  fs::path output_ = program_.file("packed");
  std::vector<float> weights_ = values(64 * 128);
  std::vector<std::byte> norm_ = std::vector<std::byte>(32);
};

TEST_F(Shards, FolderOrIndexBecomesAFolderOfShardsWithAnIndex) {
  for (const fs::path& input : {folder_, folder_ / "model.safetensors.index.json"}) {
    fs::remove_all(output_);
    const Outcome outcome = program_.run({"quantize", input, "-o", output_, "--json"});
    ASSERT_EQ(outcome.exit_code, 0) << outcome.errors;
    EXPECT_EQ(outcome.json()["layers"].size(), 2U);
    EXPECT_THAT(names_in(output_),
                ElementsAre("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
                            "model.safetensors.index.json"));
    const auto index = nlohmann::json::parse(read_file(output_ / "model.safetensors.index.json"));
    EXPECT_EQ(index["weight_map"]["layers.1.weight.packed"], "model-00002-of-00002.safetensors");
    EXPECT_EQ(index["weight_map"]["norm.weight"], "model-00001-of-00002.safetensors");
    EXPECT_FALSE(index["weight_map"].contains("layers.1.weight"));
    EXPECT_EQ(index["metadata"]["total_size"], outcome.json()["total_bytes_after"]);
    EXPECT_EQ(index["metadata"]["total_parameters"], 7);
    const Outcome run = program_.run({"run", output_, "--json", "--m", "1", "--target", "sm_80"});
    EXPECT_EQ(run.exit_code, 0) << run.errors;
    EXPECT_EQ(run.json()["layers"].size(), 2U);
  }
  EXPECT_THAT(program_.files(), ElementsAre("model", "packed"));
}

TEST_F(Shards, EmptyFolderIsTakenAndAnyOtherOutputIsRefusedBeforeWork) {
  fs::create_directory(output_);
  EXPECT_EQ(program_.run({"quantize", folder_, "-o", output_}).exit_code, 0);
  EXPECT_EQ(program_.run({"quantize", folder_, "-o", output_}).exit_code, 2);  // no longer empty
  EXPECT_EQ(program_.run({"quantize", folder_, "-o", folder_}).exit_code, 2);
  EXPECT_EQ(program_.run({"quantize", folder_, "-o", program_.file("no/such")}).exit_code, 2);
  write_file(program_.file("file"), "kept");
  EXPECT_EQ(program_.run({"quantize", folder_, "-o", program_.file("file")}).exit_code, 2);
  EXPECT_EQ(read_file(program_.file("file")), "kept");
}

TEST_F(Shards, EmptyFolderThatIsAMountPointIsFilledAndItsOwnRoomCounts) {
  EXPECT_GOOD_IN_MOUNT_NAMESPACE([&] {
    if (!mount_tmpfs(output_, "size=10m")) return false;
    fs::create_directory(output_ / "lost+found");
    const Outcome outcome = program_.run({"quantize", folder_, "-o", output_});
    EXPECT_EQ(outcome.exit_code, 0) << outcome.errors;
    EXPECT_THAT(names_in(output_),
                ElementsAre("lost+found", "model-00001-of-00002.safetensors",
                            "model-00002-of-00002.safetensors", "model.safetensors.index.json"));
    EXPECT_EQ(program_.run({"run", output_, "--m", "1", "--target", "sm_80"}).exit_code, 0);
    return true;
  });
}

TEST_F(Shards, EmptyFolderIsFilledThoughItsParentIsClosed) {
  const fs::path closed = program_.file("closed");
  fs::create_directories(closed / "out");
  fs::permissions(closed / "out", fs::perms::all);
  fs::permissions(closed, fs::perms::owner_read | fs::perms::owner_exec | fs::perms::others_read |
                              fs::perms::others_exec);
  fs::permissions(program_.directory(), fs::perms::all);
  const Outcome outcome = program_.run_unprivileged({"quantize", folder_, "-o", closed / "out"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.errors;
  EXPECT_THAT(names_in(closed / "out"),
              ElementsAre("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
                          "model.safetensors.index.json"));
  EXPECT_EQ(fs::status(closed / "out").permissions(), fs::perms::all);
  fs::permissions(closed, fs::perms::all);
}

TEST_F(Shards, EmptyFolderStaysEmptyWhereTheWorkFails) {
  std::vector<float> bad = weights_;
  bad[1000] = std::numeric_limits<float>::quiet_NaN();
  write(folder_ / "model-00002-of-00002.safetensors", "layers.1.weight", bad,
        {"norm2.weight", "F32", {8}, norm_});
  fs::create_directory(output_);
  EXPECT_EQ(program_.run({"quantize", folder_, "-o", output_}).exit_code, 1);
  EXPECT_THAT(names_in(output_), testing::IsEmpty());
}

TEST_F(Shards, OutputWithoutANameIsRefusedBeforeWork) {
  for (const fs::path& input : {folder_, folder_ / "model-00001-of-00002.safetensors"}) {
    const Outcome outcome = program_.run({"quantize", input, "-o", ""});
    EXPECT_EQ(outcome.exit_code, 2);
    EXPECT_THAT(outcome.errors, testing::AllOf(HasSubstr("''"), testing::Not(HasSubstr("[1/"))));
  }
}

TEST_F(Shards, IndexThatIsNestedWithoutEndIsRefusedBeforeWork) {
  const std::string deep = std::string(200'000, '[') + std::string(200'000, ']');
  write_file(folder_ / "model.safetensors.index.json",
             R"({"metadata": {"a": )" + deep +
                 R"(}, "weight_map": {"layers.0.weight": "model-00001-of-00002.safetensors"}})");
  const Outcome outcome = program_.run({"quantize", folder_, "-o", output_});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_THAT(outcome.errors,
              testing::AllOf(HasSubstr("nested more than 100 deep"), testing::Not(HasSubstr("[1/"))));
  EXPECT_FALSE(fs::exists(output_));
}

TEST_F(Shards, FailureInALaterShardLeavesNothing) {
  std::vector<float> bad = weights_;
  bad[1000] = std::numeric_limits<float>::quiet_NaN();
  write(folder_ / "model-00002-of-00002.safetensors", "layers.1.weight", bad,
        {"norm2.weight", "F32", {8}, norm_});
  const Outcome outcome = program_.run({"quantize", folder_, "-o", output_});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_THAT(outcome.errors, testing::AllOf(HasSubstr("layers.1.weight"), HasSubstr("row 7, column 104")));
  EXPECT_THAT(program_.files(), ElementsAre("model"));
}

TEST_F(Shards, FileForAFolderAndAFolderForAFileAreRefused) {
  fs::create_directory(output_);
  const fs::path file = folder_ / "model-00001-of-00002.safetensors";
  for (const std::string& output :
       {output_.string(), output_.string() + "/", program_.file("none").string() + "/"}) {
    const Outcome outcome = program_.run({"quantize", file, "-o", output});
    EXPECT_EQ(outcome.exit_code, 2) << output;
    EXPECT_THAT(outcome.errors, HasSubstr("is a folder"));
  }
}

TEST_F(Shards, MissingPermissionIsFoundBeforeAnyLayerIsQuantized) {
  const fs::path file = folder_ / "model-00001-of-00002.safetensors";
  const fs::path closed = program_.file("closed");
  fs::create_directory(closed);
  fs::permissions(closed, fs::perms::owner_read | fs::perms::owner_exec | fs::perms::others_read |
                              fs::perms::others_exec);
  fs::permissions(program_.directory(), fs::perms::all);
  for (const fs::path& input : {file, folder_}) {
    const Outcome outcome = program_.run_unprivileged({"quantize", input, "-o", closed / "out"});
    EXPECT_EQ(outcome.exit_code, 1) << outcome.errors;
    EXPECT_THAT(outcome.errors, testing::AllOf(HasSubstr("closed"), testing::Not(HasSubstr("[1/"))));
  }
}

TEST_F(Shards, TooLittleRoomIsFoundBeforeAnyLayerIsQuantized) {
  const fs::path small = program_.file("small");
  const fs::path file = folder_ / "model-00001-of-00002.safetensors";
  // A file takes two pages; the first of two files has room where both have not.
  const std::vector<std::tuple<std::string, fs::path, fs::path>> cases{{"size=4k", file, small / "out"},
                                                                       {"size=8k", folder_, small / "out"},
                                                                       {"size=8k", folder_, small / "empty"}};
  for (const auto& [size, input, output] : cases) {
    EXPECT_GOOD_IN_MOUNT_NAMESPACE([&] {
      if (!mount_tmpfs(small, size)) return false;
      fs::create_directory(small / "empty");
      const Outcome outcome = program_.run({"quantize", input, "-o", output});
      EXPECT_EQ(outcome.exit_code, 1) << outcome.errors;
      EXPECT_THAT(outcome.errors, testing::AllOf(HasSubstr("small"), testing::Not(HasSubstr("[1/"))));
      EXPECT_THAT(names_in(small), ElementsAre("empty"));
      EXPECT_THAT(names_in(small / "empty"), testing::IsEmpty());
      return true;
    });
  }
}

// Of more than 2^19 weights, so that it is quantized in several pieces.
TEST_F(Shards, LayerQuantizedInPiecesIsTheSameOnAnyNumberOfThreads) {
  const std::vector<float> weights = values(1100 * 1024);
  const fs::path input = program_.file("large.safetensors");
  ASSERT_TRUE(
      write_safetensors(input, {{{"a.weight", "F32", {1100, 1024}, std::as_bytes(std::span(weights))}}}, {}));
  const auto one = program_.file("one.safetensors");
  const auto four = program_.file("four.safetensors");
  for (const char* group : {"64", "256", "channel"}) {
    ASSERT_EQ(program_.run({"quantize", input, "-o", one, "--jobs", "1", "--group", group}).exit_code, 0);
    ASSERT_EQ(program_.run({"quantize", input, "-o", four, "--jobs", "4", "--group", group}).exit_code, 0);
    EXPECT_TRUE(read_file(one) == read_file(four)) << group;
    const Outcome run = program_.run({"run", one, "--m", "1", "--target", "sm_80"});
    EXPECT_EQ(run.exit_code, 0) << run.errors;
  }
}

TEST_F(Shards, WeightThatIsNotANumberEndsTheWorkAtOnceAndIsNamedByItsPlace) {
  std::vector<float> weights = values(4096 * 1024);
  weights[3000 * 1024 + 5] = std::numeric_limits<float>::infinity();
  const fs::path input = program_.file("large.safetensors");
  const std::vector<TensorWithBytes> tensors{
      {"a.weight", "F32", {4096, 1024}, std::as_bytes(std::span(weights))},
      {"b.weight", "F32", {64, 128}, std::as_bytes(std::span(weights_))},
      {"c.weight", "F32", {64, 128}, std::as_bytes(std::span(weights_))}};
  ASSERT_TRUE(write_safetensors(input, tensors, {}));
  const Outcome outcome = program_.run({"quantize", input, "-o", output_, "--jobs", "1"});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_THAT(outcome.errors, testing::AllOf(HasSubstr("layer 'a.weight'"), HasSubstr("row 3000, column 5"),
                                             testing::Not(HasSubstr("/3]"))));
  EXPECT_FALSE(fs::exists(output_));
}

TEST_F(Shards, LayerAtFaultIsToBeSkippedByTheNameOfItsTensor) {
  std::vector<float> bad = weights_;
  bad[4096] = std::numeric_limits<float>::infinity();  // the first weight of expert 1
  const fs::path input = program_.file("bad.safetensors");
  for (const auto& [name, shape] : std::vector<std::pair<std::string, std::vector<std::int64_t>>>{
           {"a.experts.w", {2, 64, 64}}, {"a.weight", {64, 128}}}) {
    ASSERT_TRUE(write_safetensors(input, {{{name, "F32", shape, std::as_bytes(std::span(bad))}}}, {}));
    EXPECT_THAT(program_.run({"quantize", input, "-o", output_}).errors,
                HasSubstr("name '" + name + "' with --skip"));
  }
}

TEST_F(Shards, LayerThatLostItsValuesIsAnErrorWithAdviceAndLeavesNoFile) {
  const fs::path input = program_.file("tiny.safetensors");
  for (const double size : {1e-8, 1e-39}) {
    const std::vector<float> weights = values(64 * 64, size);
    ASSERT_TRUE(
        write_safetensors(input, {{{"a.weight", "F32", {64, 64}, std::as_bytes(std::span(weights))}}}, {}));
    const Outcome outcome = program_.run({"quantize", input, "-o", output_});
    EXPECT_EQ(outcome.exit_code, 1) << size;
    EXPECT_THAT(outcome.errors, testing::AllOf(HasSubstr("layer 'a.weight'"), HasSubstr("bf16"))) << size;
    EXPECT_FALSE(fs::exists(output_)) << size;
    if (size < 1e-20) continue;
    EXPECT_EQ(program_.run({"quantize", input, "-o", output_, "--dtype", "bf16"}).exit_code, 0);
    fs::remove(output_);
  }
}

}  // namespace
}  // namespace lutsmith::tests
