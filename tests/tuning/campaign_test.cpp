#include "tuning/campaign.h"

#include <gtest/gtest.h>

#include <csignal>
#include <filesystem>
#include <string>
#include <vector>

#include "expect_error.h"
#include "must.h"
#include "processes.h"
#include "simulated_workbench.h"
#include "temporary_directory.h"

namespace lutsmith::tuning {
namespace {

namespace fs = std::filesystem;
using test::must;
using test::SimulatedTimes;
using test::SimulatedWorkbench;

std::vector<KernelSpec> some_specs() {
  std::vector<KernelSpec> specs;
  for (const std::int64_t m : {1, 2, 4, 8, 16}) {
    for (const std::int64_t n : {1024, 2048, 4096}) {
      specs.push_back({.format = {.bits = 4, .group = 128, .n = n, .k = 4096},
                       .m = m,
                       .target = must(Target::parse("sm_90a"))});
    }
  }
  return specs;
}

class CampaignTest : public testing::Test {
 protected:
  CampaignTest() { fs::permissions(directory_.path(), fs::perms::owner_all); }

  Result<CampaignSummary> run(const CampaignOptions& options = {},
                              const std::function<void(const CampaignStep&)>& progress = {}) {
    return tune_missing(bench_, "0000:01:00.0", database_, some_specs(), options, progress);
  }
  std::size_t kept() const { return database_.read_own(bench_.gpu()).entries().size(); }

  TemporaryDirectory directory_;
  choices::Database database_{directory_.path(), {}};
  SimulatedWorkbench bench_{SimulatedTimes{}, [](const Choice& choice) {
                              return choice.partitions == 0 ? 5.0 : 4.0 + 0.001 * choice.partitions;
                            }};
};

TEST_F(CampaignTest, WhatIsMadeOfTheSumsIsNotMeasuredApart) {
  const KernelSpec plain = some_specs().front();
  KernelSpec residual = plain;
  residual.residual = true;
  KernelSpec gated = plain;
  gated.gated = Gate::silu;
  KernelSpec wide = plain;
  wide.output = OutputType::f32;
  EXPECT_EQ(missing_specs(std::vector{gated, residual, wide, plain}, choices::Document(bench_.gpu())),
            std::vector{plain});
}

TEST_F(CampaignTest, TunesEachBucketOnceAndThoseOfAFormatTogether) {
  const CampaignSummary summary = must(run());
  EXPECT_EQ(summary.requested, 9U);
  EXPECT_EQ(summary.tuned, 9U);
  EXPECT_EQ(summary.present, 0U);
  EXPECT_EQ(kept(), 9U);
  ASSERT_EQ(bench_.begun().size(), 9U);
  for (std::size_t i = 0; i < 9; ++i) EXPECT_EQ(bench_.begun()[i].format.n, 1024 << (i / 3)) << i;
}

TEST_F(CampaignTest, SecondRunMeasuresNothing) {
  must(run());
  const std::size_t timed = bench_.timed().size();
  const CampaignSummary again = must(run());
  EXPECT_EQ(again.present, 9U);
  EXPECT_EQ(again.tuned, 0U);
  EXPECT_EQ(bench_.timed().size(), timed);
  EXPECT_EQ(must(run({.again = true})).tuned, 9U);
}

TEST_F(CampaignTest, GoesOnWhereATimeLimitStoppedIt) {
  const CampaignSummary none = must(run({.budget = std::chrono::duration<double>(-1)}));
  EXPECT_EQ(none.tuned, 0U);
  EXPECT_EQ(none.left, 9U);
  EXPECT_EQ(must(run()).tuned, 9U);
}

TEST_F(CampaignTest, KilledAtRandomPointsItGoesOnBehindWhatItKept) {
  int killed = 0;
  for (int round = 0; round < 40 && kept() < 9; ++round) {
    const std::size_t before = kept();
    const Signal begun;
    Processes processes;
    processes.start([&] {
      begun.give();
      return run().has_value() ? 0 : 1;
    });
    begun.wait();
    usleep(static_cast<useconds_t>(1000 + 2500 * (round % 7)));
    processes.kill_first();
    ++killed;
    EXPECT_GE(kept(), before);
  }
  const std::size_t before = kept();
  const CampaignSummary rest = must(run());
  EXPECT_EQ(rest.present, before);
  EXPECT_EQ(rest.tuned, 9 - before);
  EXPECT_EQ(kept(), 9U);
  EXPECT_GT(killed, 0);
}

TEST_F(CampaignTest, SpecThatFailsIsToldAndTheOthersAreTuned) {
  const KernelSpec bad = some_specs()[0];
  int told = 0;
  bench_.check_result = [&](const Choice&) -> Result<void> {
    if (bench_.begun().back() != bad) return {};
    return std::unexpected(Error{ErrorCode::driver_error, "wrong by 3 %", ""});
  };
  const CampaignSummary summary = must(run({}, [&](const CampaignStep& step) {
    if (step.error == nullptr) return;
    ++told;
    EXPECT_EQ(*step.spec, bad);
    EXPECT_EQ(step.error->message, "wrong by 3 %");
  }));
  EXPECT_EQ(told, 1);
  EXPECT_EQ(summary.failed, 1U);
  EXPECT_EQ(summary.tuned, 8U);
}

TEST_F(CampaignTest, TellsHowFarItIs) {
  std::vector<std::size_t> done;
  must(run({}, [&](const CampaignStep& step) {
    EXPECT_EQ(step.total, 9U);
    if (step.entry != nullptr) done.push_back(step.done);
  }));
  EXPECT_EQ(done, (std::vector<std::size_t>{1, 2, 3, 4, 5, 6, 7, 8, 9}));
}

TEST_F(CampaignTest, WithoutADirectoryFailsBeforeItHasMeasuredForLong) {
  const choices::Database nowhere("", {});
  expect_error(tune_missing(bench_, "", nowhere, some_specs(), {}), ErrorCode::not_found,
               "no cache directory");
  EXPECT_LE(bench_.begun().size(), 1U);
}

TEST_F(CampaignTest, OneAtATimeMeasuresOnAGpu) {
  const auto held = must(database_.lock_gpu("0000:01:00.0", std::chrono::seconds(1)));
  ASSERT_NE(held, nullptr);
  expect_error(database_.lock_gpu("0000:01:00.0", std::chrono::milliseconds(5)), ErrorCode::unsupported,
               "another process measures");
  EXPECT_NE(must(database_.lock_gpu("0000:02:00.0", std::chrono::milliseconds(5))), nullptr);
}

TEST_F(CampaignTest, SixteenProcessesLoseNothing) {
  Processes processes;
  const std::vector<KernelSpec> specs = some_specs();
  for (int i = 0; i < 16; ++i) {
    processes.start([&, i] {
      std::vector<KernelSpec> mine;
      for (int j = 0; j < 4; ++j) {
        KernelSpec spec = specs[0];
        spec.format.n = 64 * (1 + i * 4 + j);
        mine.push_back(spec);
      }
      return tune_missing(bench_, "", database_, mine, {}) ? 0 : 1;
    });
  }
  EXPECT_EQ(processes.successes(), 16);
  EXPECT_EQ(kept(), 64U);
}

}  // namespace
}  // namespace lutsmith::tuning
