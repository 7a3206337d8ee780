#include "core/shared_object.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "temporary_directory.h"

namespace lutsmith {
namespace {

using testing::HasSubstr;

const std::string& library() {
  static const std::string bytes = file_bytes(FAKE_DRIVER);
  return bytes;
}

TEST(SharedObject, WholeLibrariesPass) {
  EXPECT_TRUE(check_shared_object(FAKE_DRIVER).has_value());
  for (const char* name : {"/lib/x86_64-linux-gnu/libc.so.6", "/lib/x86_64-linux-gnu/libstdc++.so.6"}) {
    if (!std::filesystem::exists(name)) continue;
    const Result<void> checked = check_shared_object(name);
    EXPECT_TRUE(checked.has_value()) << name << ": " << checked.error().message;
  }
}

TEST(SharedObject, LibraryCutOffAnywhereIsRefused) {
  const TemporaryDirectory directory;
  for (std::size_t length = 0; length < library().size(); length += 1 + library().size() / 200) {
    const Result<void> checked = check_shared_object(directory.write("cut.so", library().substr(0, length)));
    ASSERT_FALSE(checked.has_value()) << length;
    EXPECT_EQ(checked.error().code, ErrorCode::corrupt_data) << length;
  }
  const auto checked =
      check_shared_object(directory.write("cut.so", library().substr(0, library().size() - 1)));
  ASSERT_FALSE(checked.has_value());
  EXPECT_THAT(checked.error().message, HasSubstr("it is cut off"));
}

TEST(SharedObject, LibraryWhoseEndWasNeverWrittenIsRefused) {
  const TemporaryDirectory directory;
  for (std::size_t length = 0; length + 64 < library().size(); length += 1 + library().size() / 200) {
    std::string bytes = library().substr(0, length);
    bytes.resize(library().size(), '\0');
    EXPECT_FALSE(check_shared_object(directory.write("sparse.so", bytes)).has_value()) << length;
  }
}

TEST(SharedObject, NoiseInTheHeadersIsReadWithoutHarm) {
  const TemporaryDirectory directory;
  std::mt19937 random(7);
  int refused = 0;
  constexpr int kFiles = 500;
  for (int i = 0; i < kFiles; ++i) {
    std::string bytes = library();
    for (int j = 0; j < 4; ++j) bytes[16 + random() % 600] = static_cast<char>(random());
    if (!check_shared_object(directory.write("noise.so", bytes))) ++refused;
  }
  EXPECT_GT(refused, kFiles / 2);
}

TEST(SharedObject, BareNameIsTheFirstInTheSearchPathForThisMachine) {
  const TemporaryDirectory directory;
  for (const char* folder : {"whole", "cut", "other", "none"}) {
    std::filesystem::create_directory(directory.path() / folder);
  }
  directory.write("whole/lib.so", library());
  directory.write("cut/lib.so", library().substr(0, library().size() / 2));
  std::string other = library();
  other[18] = '\x28';  // EM_ARM
  directory.write("other/lib.so", other);
  const auto message = [&](const std::string& name, const std::vector<std::string>& folders) {
    std::string search_path;
    for (const std::string& folder : folders) {
      search_path += (search_path.empty() ? "" : ":") + (directory.path() / folder).string();
    }
    const Result<void> checked = check_library(name, search_path);
    return checked ? std::string("passes") : checked.error().message;
  };
  EXPECT_EQ(message("lib.so", {"none", "whole", "cut"}), "passes");
  EXPECT_EQ(message("lib.so", {"none"}), "passes");
  EXPECT_EQ(message("lib.so", {}), "passes");
  EXPECT_THAT(
      message("lib.so", {"none", "other", "cut", "whole"}),
      testing::AllOf(testing::StartsWith(directory.path() / "cut/lib.so: "), HasSubstr("it is cut off")));
  EXPECT_THAT(message(directory.path() / "cut/lib.so", {"whole"}), testing::StartsWith("it is cut off"));
}

TEST(SharedObject, WhatIsNoLibraryIsSaidPlainly) {
  const TemporaryDirectory directory;
  const auto message = [](const std::string& path) {
    const Result<void> checked = check_shared_object(path);
    return checked ? std::string("passes") : checked.error().message;
  };
  EXPECT_EQ(message(directory.path() / "missing"), "no such file");
  EXPECT_EQ(message(directory.path()), "it is not a regular file");
  EXPECT_THAT(message(directory.write("page", "<!DOCTYPE html>")),
              HasSubstr("does not begin like an ELF file"));
  std::string other = library();
  other[18] = '\x28';  // EM_ARM
  EXPECT_THAT(message(directory.write("arm.so", other)), HasSubstr("another kind of machine"));
}

}  // namespace
}  // namespace lutsmith
