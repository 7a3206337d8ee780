// Kernels that come out of the cache, on a real driver.

#include <set>
#include <thread>

#include "cache/stores/disk_store.h"
#include "multiplication.h"
#include "synthetic_cubin.h"
#include "temporary_directory.h"

namespace lutsmith::gpu_test {
namespace {

/// Expects the float64 product, and gives what came out.
std::vector<std::uint16_t> run_right(const Kernel& kernel, const Problem& problem) {
  std::vector<std::uint16_t> result = Multiplication(problem).run(kernel);
  EXPECT_LE(error_of(problem, result), tolerance(kernel.spec().format.dtype)) << describe(kernel.spec());
  return result;
}

class CacheOnGpu : public GpuTest {
 protected:
  Service open(std::optional<CompilePolicy> policy = std::nullopt) const {
    ServiceOptions options;
    options.cache_directory = directory_.path() / "cache";
    options.compile = policy;
    return must(Service::open(std::move(options)));
  }

  TemporaryDirectory directory_;
};

TEST_F(CacheOnGpu, KernelFromTheDirectoryGivesTheBitsOfTheCompiledOne) {
  const KernelSpec spec = spec_of(3, 64, 1000, 1376, 8);
  const Problem problem = make_problem(spec, 8);
  Service compiling = open();
  const Kernel compiled = must(compiling.get(spec));
  EXPECT_GT(compiling.statistics().compiles, 0U);
  Service finding = open(CompilePolicy::never);
  const Kernel found = must(finding.get(spec));
  EXPECT_GT(finding.statistics().disk_hits, 0U);
  EXPECT_EQ(run_right(found, problem), run_right(compiled, problem));
}

TEST_F(CacheOnGpu, IntactEntryThatTheDriverRefusesIsMadeAnewOnce) {
  const KernelSpec spec = spec_of(4, 128, 256, 512);
  const cache::Key key = cache::Key::parse(must(open().compile(spec)).artifact->key).value();
  const auto store = must(cache::DiskStore::open(directory_.path() / "cache"));
  cache::Entry entry = must(store->get(key)).entry;
  entry.payload = synthetic_cubin(spec.target, must(open().compile(spec)).artifact->kernel_name);
  must(store->put(key, entry));

  Service service = open();
  const Kernel kernel = must(service.get(spec));
  EXPECT_EQ(service.statistics().compiles, 1U);
  EXPECT_EQ(service.statistics().repairs, 1U);
  run_right(kernel, make_problem(spec, 1));
  EXPECT_EQ(must(open().compile(spec)).origin, Origin::disk) << "kept again";
}

TEST_F(CacheOnGpu, ThreadsThatAskAtOnceShareOneCompileAndAllAreRight) {
  const KernelSpec spec = spec_of(2, 32, 512, 1024, 16);
  const Problem problem = make_problem(spec, 16);
  Service service = open();
  std::vector<std::jthread> threads;
  for (int i = 0; i < 16; ++i) {
    threads.emplace_back([&] {
      must(machine()->driver->ensure_context());
      run_right(must(service.get(spec)), problem);
    });
  }
  threads.clear();
  EXPECT_EQ(service.statistics().compiles, 1U);
}

TEST_F(CacheOnGpu, EveryNumberOfTokensIsServedByTheKernelsOfTheBuckets) {
  KernelSpec spec = spec_of(4, 128, 2560, 1376);
  {
    Service warming = open();
    for (const std::int64_t bucket : kTokenBuckets) {
      spec.m = bucket;
      must(warming.compile(spec));
    }
  }
  Service strict = open(CompilePolicy::never);
  std::set<std::string> keys;
  for (const std::int64_t m : {1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 63, 65, 100, 129, 255, 256, 257, 300}) {
    SCOPED_TRACE(m);
    spec.m = m;
    const Kernel kernel = must(strict.get(spec));
    keys.insert(kernel.artifact().key);
    run_right(kernel, make_problem(spec, m));
  }
  EXPECT_GE(keys.size(), 3U) << "a tile for 1, 8 and 16 tokens at least";
  EXPECT_LE(keys.size(), kTokenBuckets.size());
}

}  // namespace
}  // namespace lutsmith::gpu_test
