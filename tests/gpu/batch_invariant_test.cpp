// Batch-invariant kernels on a GPU, whose sums of a product no emulator can vouch for: bits across all
// numbers of tokens, and so across all widths of tiles.

#include <algorithm>
#include <cstdint>
#include <vector>

#include "machine.h"
#include "multiplication.h"
#include "problem.h"

namespace lutsmith::gpu_test {
namespace {

class BatchInvariantOnGpu : public GpuTest {};

constexpr std::int64_t kPool = 1024;
constexpr std::int64_t kTokens[] = {1, 2, 8, 16, 17, 33, 64, 96, 130, 192, 257, 384, 600, 1024};

/// Tokens `first` and on of the pool, around its end.
Problem tokens_from(const Problem& pool, std::int64_t first, std::int64_t m) {
  Problem problem = pool;
  problem.m = m;
  problem.activations.clear();
  for (std::int64_t row = 0; row < m; ++row) {
    const auto begin = pool.activations.begin() + (first + row) % pool.m * pool.k();
    problem.activations.insert(problem.activations.end(), begin, begin + pool.k());
  }
  return problem;
}

/// Tokens whose bits differ from those of the pool multiplied at once.
std::int64_t tokens_that_differ(const std::vector<std::uint16_t>& all, const std::vector<std::uint16_t>& part,
                                std::int64_t first, std::int64_t m, std::int64_t n) {
  std::int64_t differ = 0;
  for (std::int64_t row = 0; row < m; ++row) {
    const auto expected = all.begin() + (first + row) % kPool * n;
    if (!std::equal(expected, expected + n, part.begin() + row * n)) ++differ;
  }
  return differ;
}

/// With every number of tokens, at several places of the pool and with several numbers of partitions.
void expect_same_bits(KernelSpec spec) {
  spec.batch_invariant = true;
  spec.m = kPool;
  std::vector<KernelRequest> requests;
  for (const std::int64_t m : kTokens) {
    requests.push_back({spec, {}});
    requests.back().spec.m = m;
  }
  precompile(requests);
  const Problem pool = make_problem(spec, kPool);
  const std::vector<std::uint16_t> all = Multiplication(pool).run(get_kernel({spec, {}}));
  EXPECT_LE(error_of(pool, all), tolerance(spec.format.dtype));
  for (const KernelRequest& request : requests) {
    const std::int64_t m = request.spec.m;
    SCOPED_TRACE(describe(request));
    const Kernel kernel = get_kernel(request);
    for (const std::int64_t first : {std::int64_t{0}, std::int64_t{5}, kPool - 1}) {
      const Problem problem = tokens_from(pool, first, m);
      for (const int partitions : {0, 3}) {
        const auto part = Multiplication(problem, {.partitions = partitions}).run(kernel);
        EXPECT_EQ(tokens_that_differ(all, part, first, m, spec.format.n), 0)
            << "from token " << first << ", " << partitions << " partitions";
      }
    }
  }
}

TEST_F(BatchInvariantOnGpu, ATokenHasTheSameBitsInEveryLaunchOfALargeLayer) {
  expect_same_bits(spec_of(4, 128, 4096, 4096));
  expect_same_bits(spec_of(4, 64, 4096, 14336, 1, DataType::bf16));
}

TEST_F(BatchInvariantOnGpu, ATokenHasTheSameBitsWithEveryFormat) {
  for (const int bits : {1, 2, 3, 4}) {
    for (const int group : {32, 128, kPerChannel}) expect_same_bits(spec_of(bits, group, 1000, 2056));
  }
}

/// The widths of tiles beside the library's choice, which a tuner may take.
TEST_F(BatchInvariantOnGpu, EveryScheduleThatIsAllowedGivesTheSameBits) {
  KernelSpec spec = spec_of(4, 128, 1024, 2048, kPool);
  spec.batch_invariant = true;
  std::vector<KernelRequest> requests;
  for (const Schedule& schedule : must(schedules(spec))) requests.push_back({spec, schedule});
  precompile(requests);
  ASSERT_GE(requests.size(), 2U);
  const Problem pool = make_problem(spec, kPool);
  const std::vector<std::uint16_t> all = Multiplication(pool).run(get_kernel({spec, {}}));
  for (const KernelRequest& request : requests) {
    SCOPED_TRACE(describe(request));
    EXPECT_EQ(Multiplication(pool).run(get_kernel(request)), all);
  }
}

}  // namespace
}  // namespace lutsmith::gpu_test
