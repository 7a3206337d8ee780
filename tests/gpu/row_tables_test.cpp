// A table for each row.

#include <vector>

#include "machine.h"
#include "multiplication.h"
#include "nearest.h"
#include "problem.h"

namespace lutsmith::gpu_test {
namespace {

using RowTablesOnGpu = GpuTest;

KernelSpec spec_with_row_tables(int bits, int group, std::int64_t n, std::int64_t k, std::int64_t m,
                                DataType dtype = DataType::f16) {
  KernelSpec spec = spec_of(bits, group, n, k, m, dtype, TableKind::row);
  spec.format.offsets = group == 64;
  return spec;
}

TEST_F(RowTablesOnGpu, EveryFormatIsRightForFewTokensAndForMany) {
  for (const std::int64_t m : {1, 8, 16, 64, 300}) {
    std::vector<KernelRequest> requests;
    for (const int bits : {1, 2, 3, 4}) {
      for (const int group : {32, 64, 128, 256, kPerChannel}) {
        const DataType dtype = (bits + group / 64) % 2 == 0 ? DataType::f16 : DataType::bf16;
        requests.push_back({spec_with_row_tables(bits, group, 200, 648, m, dtype), std::nullopt});
      }
    }
    precompile(requests);
    std::uint64_t seed = 100;
    for (const KernelRequest& request : requests) expect_right(request, m, {}, {.seed = ++seed});
  }
}

// Tiles that are cut, and blocks that go from tile to tile, with poison around the output.
TEST_F(RowTablesOnGpu, EveryFamilyAndWeightStreamIsRight) {
  std::vector<KernelRequest> requests;
  for (const Schedule& schedule : schedules_of_every_stream()) {
    for (const int bits : {3, 4}) {
      const KernelSpec spec = spec_with_row_tables(bits, bits == 3 ? 64 : 256, 280, 648, 8);
      if (validate(spec, schedule)) requests.push_back({spec, schedule});
    }
  }
  ASSERT_GE(requests.size(), 14U);
  precompile(requests);
  for (const KernelRequest& request : requests) {
    for (const int partitions : {0, 1, 3, 5}) {
      expect_right(request, 75, {.partitions = partitions, .activation_padding = 8, .output_padding = 3});
    }
  }
}

// Every value of every row, to the bit: scales are powers of two.
TEST_F(RowTablesOnGpu, IdentityGivesEveryWeight) {
  for (const int bits : {1, 2, 3, 4}) {
    const KernelSpec spec = spec_with_row_tables(bits, 128, 136, 328, 8);
    std::vector<KernelRequest> requests{
        {spec, FewTokensSchedule{.tile_rows = 32, .tile_tokens = 8, .warps = 3}},
        {spec, MultistageSchedule{}}};
    if (validate(spec, ManyTokensSchedule{})) requests.push_back({spec, ManyTokensSchedule{}});
    for (const KernelRequest& request : requests) {
      SCOPED_TRACE(describe(request));
      const WeightFormat& format = spec.format;
      Problem problem = make_problem(spec, 1);
      for (std::uint16_t& scale : problem.matrix.scales) scale = to_bits(0.5F, format.dtype);
      repack(problem);
      set_identity_rows(problem, 0, format.k);
      const std::vector<std::uint16_t> result = Multiplication(problem).run(get_kernel(request));
      const std::vector<double> weights = must(dequantize(problem.matrix));
      std::int64_t wrong = 0;
      for (std::int64_t i = 0; i < format.k * format.n; ++i) {
        const double weight = weights[static_cast<std::size_t>(i % format.n * format.k + i / format.n)];
        wrong += result[static_cast<std::size_t>(i)] == nearest(weight, format.dtype) ? 0 : 1;
      }
      EXPECT_EQ(wrong, 0) << "of " << format.n * format.k << " weights";
    }
  }
}

}  // namespace
}  // namespace lutsmith::gpu_test
