// The arithmetic: codes, tables, scales and types all arrive in the product.

#include <algorithm>
#include <array>
#include <set>

#include "machine.h"
#include "multiplication.h"
#include "problem.h"

namespace lutsmith::gpu_test {
namespace {

constexpr std::array kTypes{DataType::f16, DataType::bf16};
constexpr std::array kTables{TableKind::scalar, TableKind::pair};
constexpr std::array kGroups{32, 64, 128, 256, kPerChannel};

using NumbersOnGpu = GpuTest;

std::vector<KernelSpec> all_number_formats(std::int64_t n, std::int64_t k, std::int64_t m) {
  std::vector<KernelSpec> specs;
  for (const int bits : {1, 2, 3, 4}) {
    for (const int group : kGroups) {
      for (const DataType dtype : kTypes) {
        for (const TableKind table : kTables) specs.push_back(spec_of(bits, group, n, k, m, dtype, table));
      }
    }
  }
  return specs;
}

// Same value, zeros of either sign being one.
bool same(std::uint16_t left, std::uint16_t right) { return left == right || ((left | right) & 0x7fff) == 0; }

void expect_exact_on_identity(const KernelRequest& request, const ProblemOptions& options = {}) {
  SCOPED_TRACE(describe(request));
  const KernelSpec& spec = request.spec;
  const Kernel kernel = get_kernel(request);
  Problem problem = make_problem(spec, spec.m, options);
  const std::vector<double> weights = must(dequantize(problem.matrix));
  std::int64_t wrong = 0;
  for (std::int64_t first = 0; first < spec.format.k; first += spec.m) {
    set_identity_rows(problem, first, spec.m);
    const std::vector<std::uint16_t> result = Multiplication(problem).run(kernel);
    for (std::int64_t row = 0; row < std::min(spec.m, spec.format.k - first); ++row) {
      for (std::int64_t n = 0; n < spec.format.n; ++n) {
        const double weight = weights[static_cast<std::size_t>(n * spec.format.k + first + row)];
        const std::uint16_t expected = to_bits(static_cast<float>(weight), spec.format.dtype);
        if (!same(result[static_cast<std::size_t>(row * spec.format.n + n)], expected)) ++wrong;
      }
    }
  }
  EXPECT_EQ(wrong, 0) << "of " << spec.format.n * spec.format.k
                      << " weights did not come through the identity exactly";
}

TEST_F(NumbersOnGpu, IdentityGivesEveryDequantizedWeightBitExactly) {
  std::vector<KernelRequest> requests;
  for (const KernelSpec& spec : all_number_formats(80, 328, 41)) requests.push_back({spec, std::nullopt});
  precompile(requests);
  for (const KernelRequest& request : requests) expect_exact_on_identity(request);
}

TEST_F(NumbersOnGpu, IdentityIsExactWithOneTokenPerLaunch) {
  for (const int bits : {1, 2, 3, 4}) {
    expect_exact_on_identity({spec_of(bits, 64, 48, 136, 1), std::nullopt});
  }
}

TEST_F(NumbersOnGpu, IdentityIsExactForTablesWithExtremes) {
  for (const DataType dtype : kTypes) {
    expect_exact_on_identity({spec_of(4, 32, 40, 136, 17, dtype), std::nullopt},
                             {.table = TableStyle::extremes});
  }
  expect_exact_on_identity({spec_of(4, 32, 40, 136, 17), std::nullopt}, {.table = TableStyle::subnormal});
}

// Every number format under every weight stream; tokens 1 (no matrix instruction need be full) and 5.
void expect_formats_right(WeightPath path) {
  std::vector<KernelRequest> requests;
  for (const KernelSpec& spec : all_number_formats(72, 648, 5)) {
    const FewTokensSchedule schedule{.tile_rows = spec.format.group == 64 ? 16 : 32,
                                     .tile_tokens = 8,
                                     .warps = 3,
                                     .weights = path,
                                     .stages = path == WeightPath::registers ? 2 : 3};
    if (validate(spec, schedule)) requests.push_back({spec, schedule});
  }
  precompile(requests);
  std::uint64_t seed = 100;
  for (const KernelRequest& request : requests) {
    for (const std::int64_t m : {1, 5}) expect_right(request, m, {}, {.seed = ++seed});
  }
}

TEST_F(NumbersOnGpu, EveryFormatIsRightWithWeightsInRegisters) {
  expect_formats_right(WeightPath::registers);
}
TEST_F(NumbersOnGpu, EveryFormatIsRightWithAsyncCopies) { expect_formats_right(WeightPath::async_copy); }
TEST_F(NumbersOnGpu, EveryFormatIsRightWithBulkCopies) {
  if (!machine()->target.traits().bulk_copy) GTEST_SKIP() << "this GPU has no bulk copies";
  expect_formats_right(WeightPath::bulk_copy);
}

TEST_F(NumbersOnGpu, TablesWithZerosDuplicatesAndExtremesAreRight) {
  std::vector<KernelRequest> requests;
  for (const int bits : {1, 2, 3, 4}) {
    for (const DataType dtype : kTypes) {
      for (const TableKind table : kTables) {
        requests.push_back({spec_of(bits, 128, 64, 384, 8, dtype, table), std::nullopt});
      }
    }
  }
  precompile(requests);
  for (const KernelRequest& request : requests) {
    for (const TableStyle style : {TableStyle::zeros, TableStyle::duplicates, TableStyle::extremes}) {
      expect_right(request, 8, {}, {.table = style, .seed = 7});
    }
    if (request.spec.format.dtype == DataType::f16) {
      expect_right(request, 8, {}, {.table = TableStyle::subnormal, .seed = 7});
    }
  }
}

TEST_F(NumbersOnGpu, MatrixOfOneCodeGivesThatTableValueForEveryCode) {
  for (const int bits : {1, 2, 3, 4}) {
    const KernelRequest request{spec_of(bits, 128, 40, 264, 3), std::nullopt};
    Problem problem = make_problem(request.spec, 3);
    for (int code = 0; code < 1 << bits; ++code) {
      std::ranges::fill(problem.matrix.codes, static_cast<std::uint8_t>(code));
      repack(problem);
      expect_right(request, problem);
    }
  }
}

TEST_F(NumbersOnGpu, EveryPairOfCodesIsLookedUpInItsOrder) {
  for (const int bits : {1, 2, 3, 4}) {
    // Row n holds the pair n everywhere: an error in the pair's index or order moves whole rows.
    const int pairs = 1 << (2 * bits);
    const KernelRequest request{spec_of(bits, kPerChannel, pairs, 136, 2, DataType::f16, TableKind::pair),
                                std::nullopt};
    Problem problem = make_problem(request.spec, 2);
    for (std::size_t i = 0; i < problem.matrix.codes.size(); ++i) {
      const auto pair = static_cast<int>(i) / 136;
      problem.matrix.codes[i] = static_cast<std::uint8_t>(i % 2 == 0 ? pair % (1 << bits) : pair >> bits);
    }
    repack(problem);
    expect_right(request, problem);
  }
}

// A symmetric table of integers reaches further down than up, so scales take the sign that lays the largest
// weight on its largest entry.
TEST_F(NumbersOnGpu, IntegersWithNegativeScalesAreRight) {
  std::vector<KernelRequest> requests;
  for (const int bits : {1, 2, 3, 4}) {
    for (const int group : kGroups) {
      for (const DataType dtype : kTypes) {
        requests.push_back({spec_of(bits, group, 72, 648, 5, dtype), std::nullopt});
      }
    }
  }
  precompile(requests);
  for (const KernelRequest& request : requests) {
    const Problem problem = make_integer_problem(request.spec, 5);
    EXPECT_TRUE(
        std::ranges::any_of(problem.matrix.scales, [](std::uint16_t scale) { return scale > 0x8000; }));
    expect_right(request, problem);
  }
}

TEST_F(NumbersOnGpu, AScaleOfNegativeZeroGivesZeros) {
  for (const int group : {64, kPerChannel}) {
    const KernelRequest request{spec_of(4, group, 40, 264, 3), std::nullopt};
    Problem problem = make_problem(request.spec, 3);
    std::ranges::fill(problem.matrix.scales, std::uint16_t{0x8000});
    repack(problem);
    const std::vector<std::uint16_t> result = Multiplication(problem).run(get_kernel(request));
    EXPECT_TRUE(std::ranges::all_of(result, [](std::uint16_t value) { return (value & 0x7fff) == 0; }));
  }
}

TEST_F(NumbersOnGpu, RandomProblemsDrawEveryCodeAndBothSigns) {
  const Problem signs = make_problem(spec_of(4, 128, 64, 384), 1);
  EXPECT_TRUE(std::ranges::any_of(signs.matrix.scales, [](std::uint16_t scale) { return scale > 0x8000; }));
  EXPECT_TRUE(std::ranges::any_of(signs.matrix.scales, [](std::uint16_t scale) { return scale < 0x8000; }));

  const Problem problem = make_problem(spec_of(4, 128, 64, 384), 1);
  EXPECT_EQ(std::set(problem.matrix.codes.begin(), problem.matrix.codes.end()).size(), 16U);
}

TEST_F(NumbersOnGpu, TableOfZerosGivesZeros) {
  const KernelRequest request{spec_of(3, 64, 40, 264, 3), std::nullopt};
  Problem problem = make_problem(request.spec, 3);
  std::ranges::fill(problem.matrix.table, std::uint16_t{0});
  const std::vector<std::uint16_t> result = Multiplication(problem).run(get_kernel(request));
  EXPECT_TRUE(std::ranges::all_of(result, [](std::uint16_t value) { return (value & 0x7fff) == 0; }));
}

TEST_F(NumbersOnGpu, TableBelongsToTheLaunchNotToTheKernel) {
  const KernelRequest request{spec_of(4, 128, 64, 256, 1), std::nullopt};
  for (const std::uint64_t seed : {1U, 2U, 3U}) expect_right(request, 1, {}, {.seed = seed});
}

}  // namespace
}  // namespace lutsmith::gpu_test
