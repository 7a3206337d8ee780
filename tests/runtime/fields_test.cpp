#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "core/field_json.h"
#include "core/field_text.h"
#include "runtime/manifest.h"
#include "runtime/recipe_json.h"
#include "runtime/request.h"

namespace lutsmith {
namespace {

using Json = nlohmann::ordered_json;

/// Initialises a member of any type.
struct Anything {
  template <class Member>
  operator Member() const;  // NOLINT(google-explicit-constructor): that is what it is for
};

/// How many members an aggregate can be initialised with.
template <class Aggregate, class... Members>
constexpr std::size_t count_members() {
  if constexpr (requires { Aggregate{Members()..., Anything()}; }) {
    return count_members<Aggregate, Members..., Anything>();
  } else {
    return sizeof...(Members);
  }
}

template <class Object>
constexpr std::size_t count_fields() {
  std::size_t fields = 0;
  Object object{};
  visit_fields(object, [&fields](const FieldInfo&, const auto&) { ++fields; });
  return fields;
}

// A member that the list of fields lacks would be the same in every hash, key and manifest.
static_assert(count_members<FewTokensSchedule>() == count_fields<FewTokensSchedule>());
static_assert(count_members<ManyTokensSchedule>() == count_fields<ManyTokensSchedule>());
static_assert(count_members<MultistageSchedule>() == count_fields<MultistageSchedule>());

TEST(FieldsTest, ASpecListsItsMembersAndThoseOfItsFormat) {
  constexpr std::size_t kMembers = count_members<KernelSpec>() - 1 + count_members<WeightFormat>();
  EXPECT_EQ(kMembers, count_fields<KernelSpec>());
}

template <class Value>
void change(Value& value) {
  if constexpr (std::is_same_v<Value, bool>) {
    value = !value;
  } else if constexpr (std::is_same_v<Value, Target>) {
    value = Target::parse("sm_80").value();
  } else if constexpr (std::is_enum_v<Value>) {
    value = static_cast<Value>(static_cast<int>(value) + 1);
  } else {
    value += 8;
  }
}

/// A copy with another value in each field, by the field's name.
template <class Object>
std::vector<std::pair<std::string, Object>> with_each_field_changed(const Object& object) {
  std::vector<std::pair<std::string, Object>> changed;
  visit_fields(object, [&](const FieldInfo& changing, const auto&) {
    Object copy = object;
    visit_fields(copy, [&](const FieldInfo& field, auto& value) {
      if (field.name == changing.name) change(value);
    });
    changed.emplace_back(changing.name, copy);
  });
  return changed;
}

KernelSpec spec() { return {.format = {.n = 4096, .k = 4096}, .m = 1, .target = *Target::parse("sm_90a")}; }

/// Requests that differ from the first in one field each, of the spec or of any family's schedule.
std::vector<std::pair<std::string, Request>> requests() {
  std::vector<std::pair<std::string, Request>> all;
  core::for_each_schedule([&]<class Own>() {
    all.emplace_back("", Request{.spec = spec(), .choice = Schedule(Own())});
    for (const auto& [name, changed] : with_each_field_changed(spec())) {
      all.emplace_back(name, Request{.spec = changed, .choice = Schedule(Own())});
    }
    for (const auto& [name, changed] : with_each_field_changed(Own())) {
      all.emplace_back(name, Request{.spec = spec(), .choice = Schedule(changed)});
    }
  });
  return all;
}

/// Every request has a text of its own.
template <class Text>
void expect_all_different(Text text_of) {
  std::set<std::string> seen;
  for (const auto& [name, request] : requests()) {
    const std::string text = text_of(request);
    EXPECT_TRUE(seen.insert(text).second) << "a change of '" << name << "' does not show in " << text;
  }
}

TEST(FieldsTest, EveryFieldIsInTheHash) {
  expect_all_different([](const Request& request) { return std::to_string(RequestHash()(request)); });
}

TEST(FieldsTest, RequestsWithAndWithoutAScheduleHashDifferently) {
  EXPECT_NE(RequestHash()({.spec = spec(), .choice = {}}),
            RequestHash()({.spec = spec(), .choice = Schedule(FewTokensSchedule{})}));
}

TEST(FieldsTest, EveryFieldIsInTheJsonUnderItsName) {
  expect_all_different([](const Request& request) {
    return spec_json<Json>(request.spec).dump() + schedule_json<Json>(request.choice->schedule).dump();
  });
  for (const auto& [name, changed] : with_each_field_changed(spec())) {
    EXPECT_NE(spec_json<Json>(changed).at(name), spec_json<Json>(spec()).value(name, Json()));
  }
}

TEST(FieldsTest, ASpecThatIsNotBatchInvariantIsWrittenAsBeforeThereWereSuch) {
  KernelSpec changed = spec();
  EXPECT_FALSE(spec_json<Json>(changed).contains("batch_invariant"));
  EXPECT_FALSE(launch_json<Json>(LaunchRecipe{}).contains("whole_tiles_only"));
  changed.batch_invariant = true;
  EXPECT_EQ(spec_json<Json>(changed).at("batch_invariant"), true);
  EXPECT_THAT(warm_command({.spec = changed, .choice = {}}), testing::EndsWith(" --batch-invariant on"));
  EXPECT_EQ(describe(changed), describe(spec()) + " batch-invariant");
}

TEST(FieldsTest, ASpecWithoutOffsetsIsWrittenAsBeforeThereWereSuch) {
  KernelSpec changed = spec();
  EXPECT_FALSE(spec_json<Json>(changed).contains("offsets"));
  changed.format.offsets = true;
  EXPECT_EQ(spec_json<Json>(changed).at("offsets"), true);
  EXPECT_THAT(warm_command({.spec = changed, .choice = {}}), testing::EndsWith(" --offsets on"));
  EXPECT_EQ(describe(changed), describe(spec()) + " offsets");
}

TEST(FieldsTest, ASpecThatLeavesItsSumsAsTheyAreIsWrittenAsBeforeThereWereOthers) {
  EXPECT_EQ(spec_json<Json>(spec()).size(), 8U);
  EXPECT_THAT(warm_command({.spec = spec(), .choice = {}}),
              testing::Not(testing::ContainsRegex("residual|bias|gated|output")));
  KernelSpec changed = spec();
  changed.residual = changed.bias = true;
  changed.gated = Gate::silu;
  changed.output = OutputType::f32;
  const Json json = spec_json<Json>(changed);
  EXPECT_EQ(json.at("residual"), true);
  EXPECT_EQ(json.at("bias"), true);
  EXPECT_EQ(json.at("gated"), "silu");
  EXPECT_EQ(json.at("output"), "f32");
  KernelSpec again = spec();
  EXPECT_TRUE(read_fields(Json::parse(json.dump()), again));
  EXPECT_EQ(again, changed);
  EXPECT_THAT(warm_command({.spec = changed, .choice = {}}),
              testing::EndsWith(" --residual on --bias on --gated silu --output-type f32"));
}

TEST(FieldsTest, ALaunchHasClustersInItsJsonOnlyWhereThereAreSome) {
  LaunchRecipe recipe;
  EXPECT_FALSE(launch_json<Json>(recipe).contains("cluster_blocks"));
  recipe.cluster_blocks = 2;
  EXPECT_EQ(launch_json<Json>(recipe).at("cluster_blocks"), 2);
}

TEST(FieldsTest, EveryFieldIsInTheDescription) {
  expect_all_different([](const Request& request) {
    return describe(request.spec) + "; " + describe(request.choice->schedule);
  });
}

TEST(FieldsTest, EveryFieldIsInTheCommandThatWarmsTheKernel) {
  expect_all_different([](const Request& request) { return warm_command(request); });
  const std::string command = warm_command({.spec = spec(), .choice = Schedule(FewTokensSchedule{})});
  EXPECT_THAT(
      command,
      testing::StartsWith("lutsmith compile --bits 4 --group 128 --n 4096 --k 4096 --m 1 --dtype f16 --table "
                          "scalar --target sm_90a --family few_tokens --tile-rows 32 --tile-tokens 8 --warps "
                          "8 --weights registers "
                          "--stages 2 --blocks-per-sm 1 --dependent-launch off"));
}

TEST(FieldsTest, EveryFieldComesBackFromAnEntrysManifest) {
  for (const auto& [name, request] : requests()) {
    if (!validate(request.spec)) continue;  // 12 bits
    const std::string manifest =
        write_manifest(request.spec, request.choice->schedule, Artifact{}, Provenance{});
    const Result<Description> read = read_description(manifest);
    ASSERT_TRUE(read.has_value()) << name << ": " << read.error().message;
    EXPECT_EQ(read->spec, request.spec) << name;
    EXPECT_EQ(read->schedule, request.choice->schedule) << name;
  }
}

TEST(FieldsTest, EveryFieldIsReadFromItsOwnText) {
  for (const auto& [name, changed] : with_each_field_changed(spec())) {
    KernelSpec read;
    visit_fields(changed, [&](const FieldInfo& from, const auto& value) {
      const std::string text = core::field_text(from, value);
      visit_fields(read, [&](const FieldInfo& field, auto& to) {
        if (field.name != from.name) return;
        EXPECT_TRUE(core::parse_field(field, text, to).has_value()) << name << " from " << text;
      });
    });
    EXPECT_EQ(read, changed) << name;
  }
}

TEST(FieldsTest, DescriptionsReadAsTheyAlwaysDid) {
  KernelSpec per_channel = spec();
  per_channel.format.group = kPerChannel;
  EXPECT_EQ(describe(per_channel), "w4 gchannel 4096x4096 m1 f16 scalar sm_90a");
  EXPECT_THAT(describe(FewTokensSchedule{}),
              testing::StartsWith("rows 32, tokens 8, warps 8, registers x2, 1 block/SM"));
  EXPECT_THAT(describe(FewTokensSchedule{.blocks_per_multiprocessor = 2, .dependent_launch = true}),
              testing::StartsWith("rows 32, tokens 8, warps 8, registers x2, 2 blocks/SM, dependent launch"));
}

TEST(FieldsTest, AnEntryOfAnUnknownFamilyIsANewerOnes) {
  nlohmann::json manifest =
      nlohmann::json::parse(write_manifest(spec(), FewTokensSchedule{}, Artifact{}, Provenance{}));
  EXPECT_FALSE(manifest["schedule"].contains("family")) << "readers of today's entries know no such field";
  manifest["schedule"]["family"] = "one_of_later";
  EXPECT_EQ(read_description(manifest.dump()).error().code, ErrorCode::unsupported);
  manifest["schedule"]["family"] = "few_tokens";
  EXPECT_TRUE(read_description(manifest.dump()).has_value());
}

}  // namespace
}  // namespace lutsmith
