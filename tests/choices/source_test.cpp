#include "choices/source.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <utility>

#include "example_document.h"
#include "expect_error.h"
#include "lutsmith/codegen.h"
#include "must.h"
#include "temporary_directory.h"

namespace lutsmith::choices {
namespace {

using test::example_document;
using test::example_entry;
using test::example_gpu;
using test::example_spec;
using test::must;

TEST(ChoicesOfTheModel, DependOnTheSpecAlone) {
  const Gpu gpu = example_gpu();
  ModelSource source;
  const auto with = must(source.candidates(example_spec(), &gpu));
  const auto without = must(source.candidates(example_spec(), nullptr));
  const auto ranked = must(schedules(example_spec()));
  ASSERT_EQ(with.size(), ranked.size());
  for (std::size_t i = 0; i < ranked.size(); ++i) {
    EXPECT_EQ(with[i].choice, (Choice{ranked[i], 0}));
    EXPECT_EQ(with[i].choice, without[i].choice);
    EXPECT_EQ(with[i].origin, ChoiceOrigin::model);
  }
}

class TunedChoices : public testing::Test {
 protected:
  TunedChoices() {
    std::filesystem::permissions(directory_.path(), std::filesystem::perms::owner_all);
    must(Database(directory_.path(), {}).add(example_document()));
  }

  TemporaryDirectory directory_;
  TunedSource source_{Database(directory_.path(), {}), {}};
  Gpu gpu_ = example_gpu();
};

TEST_F(TunedChoices, ComeFirstWithTheModelsBehindThem) {
  const auto candidates = must(source_.candidates(example_spec(), &gpu_));
  EXPECT_EQ(candidates[0].choice, example_entry().chosen());
  EXPECT_EQ(candidates[0].origin, ChoiceOrigin::tuned);
  EXPECT_EQ(candidates[1].choice.schedule, must(schedules(example_spec())).front());
  EXPECT_EQ(candidates[1].origin, ChoiceOrigin::model);
}

/// Specs that make something of the sums of example_spec().
std::vector<KernelSpec> with_epilogues() {
  std::vector<KernelSpec> specs(4, example_spec());
  specs[0].residual = true;
  specs[1].bias = true;
  specs[2].gated = Gate::silu;
  specs[3].output = OutputType::f32;
  return specs;
}

TEST_F(TunedChoices, ServeWhateverIsMadeOfTheSums) {
  for (const KernelSpec& spec : with_epilogues()) {
    const auto candidates = must(source_.candidates(spec, &gpu_));
    EXPECT_EQ(candidates[0].choice, example_entry().chosen()) << describe(spec);
    EXPECT_EQ(candidates[0].origin, ChoiceOrigin::tuned);
  }
}

TEST_F(TunedChoices, OfTheSpecItselfComeBeforeThoseOfItsSums) {
  Document document(gpu_);
  Entry own = example_entry();
  own.spec.residual = true;
  own.choice = {.schedule = 0, .partitions = 132, .microseconds = 4.9};
  document.put(own);
  must(source_.database().add(document));
  source_.refresh();
  EXPECT_EQ(must(source_.candidates(own.spec, &gpu_))[0].choice, own.chosen());
  EXPECT_EQ(must(source_.candidates(example_spec(), &gpu_))[0].choice, example_entry().chosen());
}

TEST_F(TunedChoices, AreOfOneModelOfGpuOnly) {
  const Gpu other{.name = gpu_.name, .multiprocessors = 114, .target = gpu_.target};
  EXPECT_EQ(must(source_.candidates(example_spec(), &other))[0].origin, ChoiceOrigin::model);
  EXPECT_EQ(must(source_.candidates(example_spec(), nullptr))[0].origin, ChoiceOrigin::model);
  KernelSpec elsewhere = example_spec();
  elsewhere.target = must(Target::parse("sm_80"));
  EXPECT_EQ(must(source_.candidates(elsewhere, &gpu_))[0].origin, ChoiceOrigin::model);
}

TEST_F(TunedChoices, OfASpecThatNobodyTunedAreTheModels) {
  EXPECT_EQ(must(source_.candidates(example_spec(512), &gpu_))[0].origin, ChoiceOrigin::model);
}

TEST_F(TunedChoices, AddedLaterAreSeenAfterARefresh) {
  EXPECT_EQ(must(source_.candidates(example_spec(512), &gpu_))[0].origin, ChoiceOrigin::model);
  Document more(gpu_);
  more.put(example_entry(512));
  must(source_.database().add(more));
  EXPECT_EQ(must(source_.candidates(example_spec(512), &gpu_))[0].origin, ChoiceOrigin::model);
  source_.refresh();
  EXPECT_EQ(must(source_.candidates(example_spec(512), &gpu_))[0].origin, ChoiceOrigin::tuned);
}

TEST(PinnedChoices, AreTheSameOnEveryGpu) {
  PinnedSource source(example_document(), Missing::error);
  const Gpu other{.name = "Other", .multiprocessors = 7, .target = example_gpu().target};
  for (const Gpu* gpu : {static_cast<const Gpu*>(nullptr), &other}) {
    const auto candidates = must(source.candidates(example_spec(), gpu));
    ASSERT_EQ(candidates.size(), 1U);
    EXPECT_EQ(candidates[0].choice, example_entry().chosen());
  }
}

TEST(PinnedChoices, ServeWhateverIsMadeOfTheSums) {
  PinnedSource source(example_document(), Missing::error);
  for (const KernelSpec& spec : with_epilogues()) {
    EXPECT_EQ(must(source.candidates(spec, nullptr))[0].choice, example_entry().chosen()) << describe(spec);
  }
}

TEST(PinnedChoices, ThatAreMissingAreAnErrorOrTheModels) {
  expect_error(PinnedSource(example_document(), Missing::error).candidates(example_spec(512), nullptr),
               ErrorCode::not_found, "lutsmith tune --bits 4");
  EXPECT_EQ(
      must(PinnedSource(example_document(), Missing::model).candidates(example_spec(512), nullptr))[0].origin,
      ChoiceOrigin::model);
}

}  // namespace
}  // namespace lutsmith::choices
