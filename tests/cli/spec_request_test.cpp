#include "cli/options/spec_request.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lutsmith::cli {
namespace {

SpecText shape(const std::string& n, const std::string& k) {
  SpecText text;
  text.n = n;
  text.k = k;
  text.target = "sm_90a";
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
  text.bits = "2,3,4";
  text.group = "32,channel";
  text.m = "1,16";
  text.dtype = "f16,bf16";
  text.target = "sm_80,sm_90a";
  const auto requests = expand(text);
  ASSERT_TRUE(requests) << requests.error().message;
  EXPECT_TRUE(requests->several);
  EXPECT_EQ(requests->kernels.size(), 3U * 2 * 2 * 2 * 2);
  for (std::size_t i = 0; i < requests->kernels.size(); ++i) {
    for (std::size_t j = 0; j < i; ++j) EXPECT_NE(requests->kernels[i].spec, requests->kernels[j].spec);
  }
}

TEST(SpecRequest, ModelGivesItsLayersForEveryShare) {
  SpecText text;
  text.target = "sm_90a";
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
  override.warps = 5;
  const auto requests = expand(shape("4096", "4096"), override);
  ASSERT_TRUE(requests) << requests.error().message;
  const KernelRequest& request = requests->kernels.front();
  const auto candidates = schedules(request.spec);
  ASSERT_TRUE(candidates);
  Schedule expected = candidates->front();
  expected.warps = 5;
  ASSERT_TRUE(request.schedule.has_value());
  EXPECT_EQ(*request.schedule, expected);
}

TEST(SpecRequest, OverrideThatTheTargetCannotDoIsRefused) {
  SpecText text = shape("4096", "4096");
  text.target = "sm_86";
  ScheduleOverride override;
  override.dependent_launch = "on";
  EXPECT_FALSE(expand(text, override));
  override.dependent_launch = "maybe";
  const auto requests = expand(text, override);
  ASSERT_FALSE(requests);
  EXPECT_THAT(requests.error().message,
              testing::AllOf(testing::HasSubstr("'maybe'"), testing::HasSubstr("on, off")));
}

}  // namespace
}  // namespace lutsmith::cli
