#include "runtime/manifest.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace lutsmith {
namespace {

Artifact sample() {
  Artifact artifact{.key = std::string(64, 'a'), .kernel_name = "kern", .launch = {}, .cubin = {}};
  artifact.launch = {.threads = 256,
                     .shared_bytes = 40000,
                     .tile_rows = 32,
                     .tile_tokens = 8,
                     .row_tiles = 128,
                     .steps_per_tile = 4,
                     .blocks_per_multiprocessor = 2,
                     .dependent_launch = true};
  artifact.registers = 120;
  artifact.static_shared_bytes = 16;
  artifact.spill_bytes = 4;
  return artifact;
}

std::string sample_manifest() {
  return write_manifest({.format = {.n = 4096, .k = 4096}, .m = 1, .target = *Target::parse("sm_90a")},
                        FewTokensSchedule{}, sample(),
                        {.compiler = "nvrtc 13.0 build-id 01", .options = "-fast\n", .source_bytes = 5});
}

/// What is known of the sample before it is read.
Artifact rendered() {
  Artifact artifact = sample();
  artifact.registers = artifact.static_shared_bytes = artifact.spill_bytes = 0;
  return artifact;
}

TEST(Manifest, ReadGivesBackWhatWasWritten) {
  const Result<Artifact> read = read_manifest(sample_manifest(), rendered());
  ASSERT_TRUE(read.has_value()) << read.error().message;
  EXPECT_EQ(read->key, sample().key);
  EXPECT_EQ(read->kernel_name, "kern");
  EXPECT_EQ(read->launch.row_tiles, 128);
  EXPECT_EQ(read->registers, 120);
  EXPECT_EQ(read->static_shared_bytes, 16);
  EXPECT_EQ(read->spill_bytes, 4);
}

TEST(Manifest, DescriptionTellsWhatAndHowWithoutTheCubin) {
  const auto parsed = nlohmann::json::parse(sample_manifest());
  EXPECT_EQ(parsed["spec"]["target"], "sm_90a");
  EXPECT_EQ(parsed["spec"]["n"], 4096);
  EXPECT_EQ(parsed["schedule"]["weights"], "registers");
  EXPECT_EQ(parsed["compiler"], "nvrtc 13.0 build-id 01");
}

TEST(Manifest, AnotherKernelsEntryIsRefused) {
  Artifact other_key = rendered();
  other_key.key = std::string(64, 'b');
  EXPECT_FALSE(read_manifest(sample_manifest(), other_key).has_value());
  Artifact other_name = rendered();
  other_name.kernel_name = "other";
  EXPECT_FALSE(read_manifest(sample_manifest(), other_name).has_value());
  Artifact other_launch = rendered();
  other_launch.launch.shared_bytes += 16;
  EXPECT_FALSE(read_manifest(sample_manifest(), other_launch).has_value());
}

TEST(Manifest, NewerSchemaIsNotDamage) {
  auto newer = nlohmann::json::parse(sample_manifest());
  newer["schema"] = newer["schema"].get<int>() + 1;
  EXPECT_EQ(read_manifest(newer.dump(), rendered()).error().code, ErrorCode::unsupported);
  EXPECT_EQ(read_description(newer.dump()).error().code, ErrorCode::unsupported);
  newer["schema"] = 1;
  EXPECT_EQ(read_manifest(newer.dump(), rendered()).error().code, ErrorCode::corrupt_data);
}

TEST(Manifest, HostileTextIsRefused) {
  const auto refused = [](const std::string& text) {
    const Result<Artifact> read = read_manifest(text, rendered());
    return !read && read.error().code == ErrorCode::corrupt_data;
  };
  EXPECT_TRUE(refused(""));
  EXPECT_TRUE(refused("[]"));
  EXPECT_TRUE(refused("{}"));
  EXPECT_TRUE(refused("\xff\xfe{"));
  for (const auto& value : {nlohmann::json(-1), nlohmann::json("120"), nlohmann::json(1.5),
                            nlohmann::json(1ULL << 40U), nlohmann::json(nullptr)}) {
    auto parsed = nlohmann::json::parse(sample_manifest());
    parsed["registers"] = value;
    EXPECT_TRUE(refused(parsed.dump())) << value;
  }
}

/// A manifest as one field after another is changed.
template <class Change>
bool readable(Change&& change) {
  auto json = nlohmann::json::parse(sample_manifest());
  change(json);
  return read_description(json.dump()).has_value();
}

TEST(Manifest, DescriptionIsReadBack) {
  const Result<Description> read = read_description(sample_manifest());
  ASSERT_TRUE(read.has_value()) << read.error().message;
  EXPECT_EQ(read->key, sample().key);
  EXPECT_EQ(read->spec,
            (KernelSpec{.format = {.n = 4096, .k = 4096}, .m = 1, .target = *Target::parse("sm_90a")}));
  EXPECT_EQ(read->schedule, Schedule(FewTokensSchedule{}));
  EXPECT_EQ(read->provenance.compiler, "nvrtc 13.0 build-id 01");
  EXPECT_EQ(read->provenance.options, "-fast\n");
  EXPECT_EQ(read->provenance.source_bytes, 5U);
  EXPECT_TRUE(readable([](auto& json) { json["spec"]["group"] = "channel"; }));
}

TEST(Manifest, DescriptionThatCouldWriteToATerminalIsRefused) {
  for (const char* field : {"kernel", "compiler", "options"}) {
    for (const char* text : {"\x1b]0;title\a", "\r", "\xc2\x9b", "\x7f"}) {
      EXPECT_FALSE(readable([&](auto& json) { json[field] = text; })) << field;
    }
  }
  EXPECT_FALSE(readable([](auto& json) { json["kernel"] = "two\nlines"; }));
  EXPECT_TRUE(readable([](auto& json) { json["options"] = "-a\n-b\n"; }));
}

TEST(Manifest, DescriptionOfAnythingElseIsRefused) {
  for (const char* text : {"", "7", "[]", "{}", "{\"schema\":2}", "\xff"}) {
    EXPECT_FALSE(read_description(text).has_value()) << text;
  }
  const auto parsed = nlohmann::json::parse(sample_manifest());
  for (const char* field :
       {"schema", "key", "kernel", "compiler", "options", "spec", "schedule", "source_bytes"}) {
    EXPECT_FALSE(readable([&](auto& json) { json.erase(field); })) << field;
    EXPECT_FALSE(readable([&](auto& json) { json[field] = nullptr; })) << field;
    EXPECT_FALSE(readable([&](auto& json) { json[field] = nlohmann::json::array({1}); })) << field;
  }
  for (const char* part : {"spec", "schedule"}) {
    for (const auto& [field, value] : parsed[part].items()) {
      EXPECT_FALSE(readable([&](auto& json) { json[part].erase(field); })) << field;
      EXPECT_FALSE(readable([&](auto& json) { json[part][field] = nlohmann::json::object(); })) << field;
    }
  }
  EXPECT_FALSE(readable([](auto& json) { json["spec"]["n"] = -5; }));
  EXPECT_FALSE(readable([](auto& json) { json["spec"]["target"] = "sm_1"; }));
}

}  // namespace
}  // namespace lutsmith
