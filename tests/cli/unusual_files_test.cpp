// Files as users bring them, and places they want them at.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdint>
#include <cstring>
#include <string>

#include "command_line.h"
#include "lutsmith/safetensors.h"

namespace lutsmith::tests {
namespace {

using testing::HasSubstr;

/// A file of a 64 x 64 matrix of halves, all 1, and what else `header` and `data` have before and after.
std::string file_with_layer(const std::string& before, const std::string& after, const std::string& data) {
  const std::string header =
      "{" + before + R"("a.weight":{"dtype":"F16","shape":[64,64],"data_offsets":[0,8192]})" + after + "}";
  const std::uint64_t length = header.size();
  std::string bytes(sizeof(length), '\0');
  std::memcpy(bytes.data(), &length, sizeof(length));
  bytes += header;
  for (int i = 0; i < 64 * 64; ++i) bytes += std::string("\x00\x3c", 2);
  return bytes + data;
}

class UnusualFiles : public testing::Test {
 protected:
  Outcome quantize(const std::string& bytes, const std::string& output = "packed.safetensors") const {
    write_file(program_.file("model.safetensors"), bytes);
    return program_.run({"quantize", program_.file("model.safetensors"), "-o", program_.file(output)});
  }

  CommandLine program_;
};

TEST_F(UnusualFiles, TypesAndFieldsThatOnlyTheFormatsOwnLibraryKnewAreCopiedUnchanged) {
  const Outcome outcome = quantize(file_with_layer(
      R"("__metadata__":null,)",
      R"(,"s":{"checksum":{"crc":[1,2]},"dtype":"F8_E4M3FNUZ","shape":[2,4],"data_offsets":[8192,8200]})",
      "\x80\x01\x7f\xff 12x"));
  ASSERT_EQ(outcome.exit_code, 0) << outcome.errors;
  const auto packed = SafetensorsFile::open(program_.file("packed.safetensors"));
  ASSERT_TRUE(packed) << packed.error().message;
  ASSERT_TRUE(packed->tensors().contains("s"));
  const TensorInfo& copied = packed->tensors().at("s");
  EXPECT_EQ(copied.dtype, "F8_E4M3FNUZ");
  EXPECT_THAT(copied.shape, testing::ElementsAre(2, 4));
  const auto bytes = packed->read("s");
  ASSERT_TRUE(bytes);
  EXPECT_EQ(std::memcmp(bytes->data(), "\x80\x01\x7f\xff 12x", 8), 0);
}

TEST_F(UnusualFiles, AnotherFormatIsNamedByEveryVerbThatReadsCheckpoints) {
  const std::string pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:01\nsize 4976698672\n";
  const Outcome quantized = quantize(pointer);
  const Outcome run = program_.run({"run", program_.file("model.safetensors")});
  for (const Outcome& outcome : {quantized, run}) {
    EXPECT_EQ(outcome.exit_code, 1);
    EXPECT_THAT(outcome.errors, HasSubstr("model.safetensors: is a git-lfs pointer"));
    EXPECT_THAT(outcome.errors, HasSubstr("git lfs pull"));
  }
  EXPECT_THAT(program_.files(), testing::ElementsAre("model.safetensors"));
}

TEST_F(UnusualFiles, AFileOfANewerFormatIsNeitherDamagedNorQuantizedAgain) {
  const std::string newer = file_with_layer(R"("__metadata__":{"lutsmith.packed.v2":"{}"},)", "", "");
  EXPECT_NE(quantize(newer).exit_code, 0);
  const Outcome run = program_.run({"run", program_.file("model.safetensors")});
  EXPECT_EQ(run.exit_code, 1);
  EXPECT_THAT(run.errors, HasSubstr("packed by a newer lutsmith"));
  EXPECT_THAT(run.errors, HasSubstr("lutsmith.packed.v2"));
}

TEST_F(UnusualFiles, AnOutputBehindASymbolicLinkGoesWhereItPointsAndKeepsItsMode) {
  write_file(program_.file("there"), "old");
  ASSERT_EQ(::chmod(program_.file("there").c_str(), 0640), 0);
  std::filesystem::create_symlink("there", program_.file("link"));
  const Outcome outcome = quantize(file_with_layer("", "", ""), "link");
  ASSERT_EQ(outcome.exit_code, 0) << outcome.errors;
  EXPECT_TRUE(std::filesystem::is_symlink(program_.file("link")));
  struct stat status{};
  ASSERT_EQ(::lstat(program_.file("there").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777U, 0640U);
  EXPECT_TRUE(SafetensorsFile::open(program_.file("there")));
  EXPECT_THAT(program_.files(), testing::ElementsAre("link", "model.safetensors", "there"));
}

}  // namespace
}  // namespace lutsmith::tests
