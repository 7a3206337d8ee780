#include "cli/options/spec_request.h"
#include "cli/options/spec_options.h"
#include "core/field_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <ranges>

namespace lutsmith::cli {
namespace {

SpecText shape(const std::string& n, const std::string& k) {
  SpecText text;
  text["n"] = n;
  text["k"] = k;
  text["target"] = "sm_90a";
  return text;
}

TEST(SpecRequest, DefaultsMakeOneKernel) {
  const auto requests = expand(shape("1000", "1032"));
  ASSERT_TRUE(requests) << requests.error().message;
  ASSERT_EQ(requests->kernels.size(), 1U);
  EXPECT_FALSE(requests->several);
  const KernelSpec& spec = requests->kernels.front().spec;
  EXPECT_EQ(spec.format.n, 1000);
  EXPECT_EQ(spec.format.k, 1032);
  EXPECT_EQ(spec.format.bits, 4);
  EXPECT_EQ(spec.format.group, 128);
  EXPECT_EQ(spec.target.name(), "sm_90a");
  EXPECT_FALSE(requests->kernels.front().schedule.has_value());
}

TEST(SpecRequest, ListsMakeEveryCombinationOnce) {
  SpecText text = shape("64", "64");
  text["bits"] = "2,3,4";
  text["group"] = "32,channel";
  text["m"] = "1,16";
  text["dtype"] = "f16,bf16";
  text["target"] = "sm_80,sm_90a";
  const auto requests = expand(text);
  ASSERT_TRUE(requests) << requests.error().message;
  EXPECT_TRUE(requests->several);
  EXPECT_EQ(requests->kernels.size(), 3U * 2 * 2 * 2 * 2);
  for (std::size_t i = 0; i < requests->kernels.size(); ++i) {
    for (std::size_t j = 0; j < i; ++j) EXPECT_NE(requests->kernels[i].spec, requests->kernels[j].spec);
  }
}

TEST(SpecRequest, ASwitchIsOffUnlessItIsGivenAndTakesAListToo) {
  SpecText text = shape("1024", "1024");
  EXPECT_FALSE(expand(text)->kernels.front().spec.batch_invariant);
  text["batch_invariant"] = "off,on";
  const auto requests = expand(text);
  ASSERT_TRUE(requests) << requests.error().message;
  ASSERT_EQ(requests->kernels.size(), 2U);
  EXPECT_TRUE(requests->kernels.back().spec.batch_invariant);
  text["batch_invariant"] = "maybe";
  EXPECT_FALSE(expand(text).has_value());
}

TEST(SpecRequest, ModelGivesItsLayersForEveryShare) {
  SpecText text;
  text["target"] = "sm_90a";
  text.model = "llama3.1-70b";
  text.tp = "4,8";
  const auto requests = expand(text);
  ASSERT_TRUE(requests) << requests.error().message;
  EXPECT_TRUE(requests->several);
  ASSERT_EQ(requests->kernels.size(), 8U);
  EXPECT_EQ(requests->kernels[0].layer.name, "qkv");
  EXPECT_EQ(requests->kernels[0].tp, 4);
  EXPECT_EQ(requests->kernels[0].spec.format.n, 2560);
  EXPECT_EQ(requests->kernels[7].layer.name, "down");
  EXPECT_EQ(requests->kernels[7].tp, 8);
  EXPECT_EQ(requests->kernels[7].spec.format.k, 3584);
}

TEST(SpecRequest, OverrideReplacesOnlyTheFieldsGiven) {
  ScheduleOverride override;
  override.fields["warps"] = "5";
  const auto requests = expand(shape("4096", "4096"), override);
  ASSERT_TRUE(requests) << requests.error().message;
  const KernelRequest& request = requests->kernels.front();
  const auto candidates = schedules(request.spec);
  ASSERT_TRUE(candidates);
  Schedule expected = candidates->front();
  std::get<FewTokensSchedule>(expected).warps = 5;
  ASSERT_TRUE(request.schedule.has_value());
  EXPECT_EQ(*request.schedule, expected);
}

TEST(SpecRequest, OverrideOfAFamilyTakesItsFirstCandidateOrNamesThoseThereAre) {
  const auto requests = expand(shape("4096", "4096"), {.fields = {}, .family = "few_tokens"});
  ASSERT_TRUE(requests) << requests.error().message;
  EXPECT_EQ(requests->kernels.front().schedule, schedules(requests->kernels.front().spec)->front());
  const auto refused = expand(shape("4096", "4096"), {.fields = {}, .family = "no_tokens"});
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message,
              testing::AllOf(testing::HasSubstr("'no_tokens'"), testing::HasSubstr("few_tokens")));
}

TEST(SpecRequest, OverrideThatTheTargetCannotDoIsRefused) {
  SpecText text = shape("4096", "4096");
  text["target"] = "sm_86";
  ScheduleOverride override;
  override.fields["dependent_launch"] = "on";
  EXPECT_FALSE(expand(text, override));
  override.fields["dependent_launch"] = "maybe";
  const auto requests = expand(text, override);
  ASSERT_FALSE(requests);
  EXPECT_THAT(requests.error().message,
              testing::AllOf(testing::HasSubstr("'maybe'"), testing::HasSubstr("on, off")));
}

/// The names of all fields of the spec and of every family's schedule, as options.
std::vector<std::string> options_of_all_fields() {
  std::vector<std::string> options;
  const auto add = [&](const FieldInfo& field, const auto&) {
    options.push_back("--" + core::option_name(field));
  };
  const KernelSpec spec;
  visit_fields(spec, add);
  core::for_each_schedule([&]<class Own>() {
    const Own own;
    visit_fields(own, add);
  });
  return options;
}

TEST(SpecOptions, EveryFieldHasAnOptionThatSetsIt) {
  for (const std::string& name : options_of_all_fields()) {
    CLI::App verb;
    SpecOptions options;
    add_spec_options(verb, options);
    verb.parse(name + " 77");
    const std::string field = options.schedule.empty() ? "" : options.schedule.fields.begin()->first;
    const bool in_spec = std::ranges::count(std::views::values(options.text.fields), "77") == 1;
    const bool in_schedule = options.schedule.fields == FieldTexts{{field, "77"}};
    EXPECT_NE(in_spec, in_schedule) << name;
  }
}

TEST(SpecRequest, AValueThatAFieldCannotHaveIsRefusedNamingTheField) {
  for (const char* field : {"bits", "group", "m", "dtype", "table", "target"}) {
    SpecText text = shape("64", "64");
    text[field] = "17x";
    const auto requests = expand(text);
    ASSERT_FALSE(requests) << field;
    EXPECT_THAT(requests.error().message, testing::HasSubstr(std::string(field) + ": '17x'"));
  }
}

}  // namespace
}  // namespace lutsmith::cli
