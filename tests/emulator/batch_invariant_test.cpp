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

constexpr std::int64_t kUnit = 128;  // along K

/// What the first unit adds the fourth takes away again, and all others are 2^16 times smaller: how much is
/// left of each depends on what it was added to. So the order of a sum shows in 16 bits.
void let_order_show(Problem& problem) {
  QuantizedMatrix& matrix = problem.matrix;
  const std::int64_t k = problem.k();
  const bool scaled_units = matrix.format.group == kUnit;
  const std::int64_t groups = scaled_units ? (k + kUnit - 1) / kUnit : 1;
  for (std::int64_t row = 0; row < problem.n(); ++row) {
    const auto codes = matrix.codes.begin() + row * k;
    std::copy_n(codes, kUnit, codes + 3 * kUnit);
    const auto scales = matrix.scales.begin() + row * groups;
    if (scaled_units) scales[3] = scales[0];
  }
  for (std::size_t i = 0; i < problem.activations.size(); ++i) {
    const std::int64_t unit = static_cast<std::int64_t>(i) % k / kUnit;
    const std::size_t from = unit == 3 ? i - 3 * kUnit : i;
    const float factor = unit == 0 ? 0x1p8F : unit == 3 ? -1.0F : 0x1p-8F;
    const DataType dtype = matrix.format.dtype;
    problem.activations[i] = to_bits(from_bits(problem.activations[from], dtype) * factor, dtype);
  }
  repack(problem);
}

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
  Problem pool = make_problem(spec, 61);
  let_order_show(pool);
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
    // Three partitions would cut the tiles of any other kernel.
    const auto result =
        emulate(kernel.front(), source, with_first_token(pool, m), {.partitions = m == 1 ? 0 : 3});
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
  if (has_turn(1)) expect_same_bits(spec_of(3, kPerChannel, DataType::bf16, "sm_90a"));
}

TEST(EmulatedBatchInvariant, ProductsOfWarpsGiveATokenTheSameBitsInEveryLaunch) {
  expect_same_bits(spec_of(4, 128, DataType::f16, "sm_86"));
  if (has_turn(1)) expect_same_bits(spec_of(3, kPerChannel, DataType::bf16, "sm_100a"));
}

// What the tests above would see if tiles were cut.
TEST(EmulatedBatchInvariant, WithoutTheOptionACutTileChangesATokensBits) {
  for (const char* target : {"sm_90a", "sm_86"}) {
    SCOPED_TRACE(target);
    KernelSpec spec = spec_of(4, 128, DataType::f16, target);
    spec.m = 17;
    spec.batch_invariant = true;
    const Schedule schedule = must(schedules(spec)).front();
    spec.batch_invariant = false;
    const Source source = must(render(spec, schedule));
    const auto kernel = must(EmulatedKernel::compile(host_compiler(), spec, source));
    Problem problem = make_problem(spec, 17);
    let_order_show(problem);
    EXPECT_NE(must(emulate(kernel, source, problem, {.partitions = 1})),
              must(emulate(kernel, source, problem, {.partitions = 3})));
  }
}

}  // namespace
}  // namespace lutsmith::emulator_test
