// Tuning by a service, on a real GPU.

#include <array>

#include "choices/database.h"
#include "multiplication.h"
#include "temporary_directory.h"

namespace lutsmith::gpu_test {
namespace {

class TuningOnGpu : public GpuTest {
 protected:
  Service open(TuningMode mode, std::optional<CompilePolicy> policy = std::nullopt) const {
    ServiceOptions options;
    options.cache_directory = directory_.path() / "cache";
    options.system_directories.emplace();  // whatever the machine's variables say
    options.remote_cache.emplace();
    options.compile = policy;
    options.tuning.mode = mode;
    return must(Service::open(std::move(options)));
  }
  choices::Document tuned() const {
    return choices::Database(directory_.path() / "cache", {})
        .read_own({.name = machine()->facts.name,
                   .multiprocessors = machine()->facts.multiprocessors,
                   .target = machine()->target});
  }
  /// Expects the float64 product, and gives what came out.
  static std::vector<std::uint16_t> run_right(const Kernel& kernel, const Problem& problem) {
    std::vector<std::uint16_t> result = Multiplication(problem).run(kernel);
    EXPECT_LE(error_of(problem, result), tolerance(kernel.spec().format.dtype)) << describe(kernel.choice());
    return result;
  }

  TemporaryDirectory directory_;
};

TEST_F(TuningOnGpu, PrepareMeasuresOnceAndEveryServiceAfterItFollows) {
  // Of no model that is known, so that nothing is shipped for it.
  const std::array specs{spec_of(4, 128, 1056, 1376, 8)};
  const Problem problem = make_problem(specs[0], 8);
  Service first = open(TuningMode::tune);
  EXPECT_EQ(must(first.prepare(specs)).tuned, 1U);
  const Kernel kernel = must(first.get(specs[0]));
  const std::vector<std::uint16_t> result = run_right(kernel, problem);
  EXPECT_EQ(must(first.compile(specs[0])).chosen_by, ChoiceOrigin::tuned);

  const choices::Document document = tuned();
  ASSERT_EQ(document.entries().size(), 1U);
  const choices::Entry& entry = document.entries().begin()->second;
  EXPECT_EQ(entry.spec, specs[0]);
  EXPECT_EQ(kernel.choice(), entry.chosen());
  EXPECT_GT(entry.measurements.size(), 5U);
  EXPECT_LE(entry.choice.microseconds, entry.standard.microseconds);
  EXPECT_FALSE(entry.conditions.driver.empty());

  Service second = open(TuningMode::tune);
  const PrepareSummary again = must(second.prepare(specs));
  EXPECT_EQ(again.tuned, 0U) << "measured again";
  EXPECT_EQ(again.compiled, 0U);
  EXPECT_EQ(run_right(must(second.get(specs[0])), problem), result);
  EXPECT_EQ(choices::write_document(tuned()), choices::write_document(document));

  Service following = open(TuningMode::use, CompilePolicy::never);
  const CompileResult found = must(following.compile(specs[0]));
  EXPECT_EQ(found.chosen_by, ChoiceOrigin::tuned);
  EXPECT_EQ(found.choice, kernel.choice());
  EXPECT_EQ(run_right(must(following.get(specs[0])), problem), result);
  EXPECT_EQ(following.statistics().compiles, 0U);
}

TEST_F(TuningOnGpu, TunedKernelServesTheOtherTokensOfItsBucket) {
  const std::array specs{spec_of(3, 64, 1000, 1376, 8)};
  must(open(TuningMode::tune).prepare(specs));
  Service service = open(TuningMode::use, CompilePolicy::never);
  for (const std::int64_t m : {2, 5, 8}) {
    KernelSpec spec = specs[0];
    spec.m = m;
    const Kernel kernel = must(service.get(spec));
    EXPECT_EQ(kernel.choice(), tuned().entries().begin()->second.chosen()) << m;
    run_right(kernel, make_problem(spec, m));
  }
}

TEST_F(TuningOnGpu, WithoutTheModeNothingIsMeasured) {
  const std::array specs{spec_of(4, 128, 1056, 1376)};
  for (const TuningMode mode : {TuningMode::off, TuningMode::use}) {
    Service service = open(mode);
    EXPECT_EQ(must(service.prepare(specs)).tuned, 0U);
    run_right(must(service.get(specs[0])), make_problem(specs[0], 1));
  }
  EXPECT_TRUE(tuned().entries().empty());
}

}  // namespace
}  // namespace lutsmith::gpu_test
