// Batch-invariant kernels: whatever the tokens of a launch, a token's bits are the same.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "emulation.h"
#include "must.h"

namespace lutsmith::emulator_test {
namespace {

using emulator::EmulatedKernel;

/// `m` tokens of `pool`, other ones for every m, with the pool's first at the beginning, the middle and the
/// end.
Problem with_first_token(const Problem& pool, std::int64_t m) {
  Problem problem = pool;
  const std::int64_t k = pool.k();
  problem.m = m;
  problem.activations.clear();
  for (std::int64_t row = 0; row < m; ++row) {
    const bool first = row == 0 || row == m / 2 || row == m - 1;
    const std::int64_t token = first ? 0 : 1 + (row * 7 + m) % (pool.m - 1);
    const auto begin = pool.activations.begin() + token * k;
    problem.activations.insert(problem.activations.end(), begin, begin + k);
  }
  return problem;
}

/// Makes the kernel that the library takes for each number of tokens, and compares what they make of one
/// token.
void expect_same_bits(KernelSpec spec) {
  spec.batch_invariant = true;
  const Problem pool = make_problem(spec, 61);
  const auto n = static_cast<std::ptrdiff_t>(pool.n());
  std::vector<std::uint16_t> expected;
  std::string text;
  std::vector<EmulatedKernel> kernel;
  Source source;
  for (const std::int64_t m : {1, 2, 16, 17, 33, 64, 130, 300}) {
    spec.m = m;
    const Schedule schedule = must(schedules(spec)).front();
    SCOPED_TRACE(describe(spec) + ", " + describe(schedule));
    source = must(render(spec, schedule));
    if (source.text != text) {
      kernel.clear();
      kernel.push_back(must(EmulatedKernel::compile(host_compiler(), spec, source)));
      text = source.text;
    }
    const auto result = emulate(kernel.front(), source, with_first_token(pool, m));
    ASSERT_TRUE(result) << result.error().message << "\n" << result.error().context;
    if (expected.empty()) expected.assign(result->begin(), result->begin() + n);
    for (const std::int64_t row : {std::int64_t{0}, m / 2, m - 1}) {
      EXPECT_TRUE(std::equal(expected.begin(), expected.end(), result->begin() + row * n)) << "row " << row;
    }
  }
}

KernelSpec spec_of(int bits, int group, DataType dtype, const char* target) {
  return {.format = {.bits = bits, .group = group, .n = 136, .k = 584, .dtype = dtype},
          .target = must(Target::parse(target))};
}

TEST(EmulatedBatchInvariant, WarpgroupProductsGiveATokenTheSameBitsInEveryLaunch) {
  expect_same_bits(spec_of(4, 128, DataType::f16, "sm_90a"));
  expect_same_bits(spec_of(3, kPerChannel, DataType::bf16, "sm_90a"));
}

TEST(EmulatedBatchInvariant, ProductsOfWarpsGiveATokenTheSameBitsInEveryLaunch) {
  expect_same_bits(spec_of(4, 128, DataType::f16, "sm_86"));
  expect_same_bits(spec_of(3, kPerChannel, DataType::bf16, "sm_100a"));
}

}  // namespace
}  // namespace lutsmith::emulator_test
