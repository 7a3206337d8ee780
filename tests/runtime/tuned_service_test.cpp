#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "choices/database.h"
#include "expect_error.h"
#include "lutsmith/codegen.h"
#include "lutsmith/service.h"
#include "must.h"
#include "temporary_directory.h"

// A whole service and tuned choices, without a GPU.

namespace lutsmith {
namespace {

namespace fs = std::filesystem;
using test::must;
using testing::HasSubstr;

class TunedServiceTest : public testing::Test {
 protected:
  TunedServiceTest() {
    fs::create_directory(root());
    fs::permissions(root(), fs::perms::owner_all);
    choices::Document document({.name = "Example GPU 80GB", .multiprocessors = 132, .target = spec().target});
    choices::Entry entry;
    entry.spec = spec();
    entry.schedules = {must(schedules(spec()))[3]};  // not the cost model's first
    entry.choice = {.schedule = 0, .partitions = 17, .microseconds = 4};
    entry.standard = {.schedule = 0, .partitions = 132, .microseconds = 5};
    entry.conditions.measured = "2026-01-02T03:04:05Z";
    tuned_ = entry.chosen();
    document.put(entry);
    must(choices::Database(root(), {}).add(document));
    must(choices::write_file(pinned(), document));
  }

  static KernelSpec spec(std::int64_t n = 1000) {
    return {.format = {.n = n, .k = 1032}, .m = 1, .target = must(Target::parse("sm_90a"))};
  }
  fs::path root() const { return directory_.path() / "cache"; }
  fs::path pinned() const { return directory_.path() / "pinned.json"; }
  ServiceOptions options(TuningMode mode) const {
    ServiceOptions options;
    options.cache_directory = root();
    options.tuning.mode = mode;
    return options;
  }

  TemporaryDirectory directory_;
  Choice tuned_;
};

TEST_F(TunedServiceTest, FollowsWhatWasTunedForTheGpuThatIsNamed) {
  ServiceOptions use = options(TuningMode::use);
  use.tuning.gpu = "example gpu";
  const CompileResult compiled = must(must(Service::open(use)).compile(spec()));
  EXPECT_EQ(compiled.choice, tuned_);
  EXPECT_EQ(compiled.chosen_by, ChoiceOrigin::tuned);
  const CompileResult off = must(must(Service::open(options(TuningMode::off))).compile(spec()));
  EXPECT_EQ(off.chosen_by, ChoiceOrigin::model);
  EXPECT_EQ(off.choice.schedule, must(schedules(spec())).front());
  EXPECT_EQ(off.choice.partitions, 0);
}

TEST_F(TunedServiceTest, GpuThatNobodyTunedIsAnErrorThatNamesThoseThatAreKnown) {
  ServiceOptions use = options(TuningMode::use);
  use.tuning.gpu = "abacus";
  expect_error(Service::open(use), ErrorCode::not_found, "'abacus'", "Example GPU 80GB");
}

TEST_F(TunedServiceTest, ReplayFollowsItsDocumentAndNothingElse) {
  ServiceOptions replay = options(TuningMode::replay);
  replay.tuning.document = pinned();
  Service strict = must(Service::open(replay));
  EXPECT_EQ(must(strict.compile(spec())).choice, tuned_);
  expect_error(strict.compile(spec(500)), ErrorCode::not_found, "pinned choices", "lutsmith tune");
  replay.tuning.missing = MissingChoice::model;
  EXPECT_EQ(must(must(Service::open(replay)).compile(spec(500))).chosen_by, ChoiceOrigin::model);
}

TEST_F(TunedServiceTest, ReplayWithoutAUsableDocumentDoesNotOpen) {
  ServiceOptions replay = options(TuningMode::replay);
  expect_error(Service::open(replay), ErrorCode::invalid_argument, "LUTSMITH_TUNING_FILE");
  replay.tuning.document = directory_.path() / "missing.json";
  expect_error(Service::open(replay), ErrorCode::not_found, "missing.json");
  replay.tuning.document = directory_.write("torn.json", file_bytes(pinned()).substr(0, 100));
  expect_error(Service::open(replay), ErrorCode::corrupt_data, "torn.json", "cut off");
}

TEST_F(TunedServiceTest, PrepareWithoutAGpuMakesAllKernelsAndTellsTheFirstThatFails) {
  ServiceOptions use = options(TuningMode::use);
  use.tuning.gpu = "Example GPU 80GB";
  Service service = must(Service::open(use));
  const std::vector<KernelSpec> specs{spec(), spec(500)};
  const PrepareSummary summary = must(service.prepare(specs));
  EXPECT_EQ(summary.kernels, 2U);
  EXPECT_EQ(summary.compiled, 2U);
  EXPECT_EQ(summary.tuned, 0U);
  EXPECT_EQ(must(service.prepare(specs)).compiled, 0U);
  EXPECT_EQ(must(service.compile(spec())).origin, Origin::memory);
  const std::vector<KernelSpec> bad{spec(-1), spec(600)};
  expect_error(service.prepare(bad), ErrorCode::invalid_argument, "n: -1");
  EXPECT_EQ(must(service.compile(spec(600))).origin, Origin::memory) << "made in spite of the one before";
}

}  // namespace
}  // namespace lutsmith
