// Formats with an offset beside each scale.

#include <algorithm>
#include <cmath>

#include "machine.h"
#include "multiplication.h"
#include "nearest.h"
#include "problem.h"

namespace lutsmith::gpu_test {
namespace {

using OffsetsOnGpu = GpuTest;

constexpr int kGroups[] = {32, 64, 128, 256, kPerChannel};

KernelSpec spec_with_offsets(int bits, int group, std::int64_t n, std::int64_t k, std::int64_t m,
                             DataType dtype = DataType::f16, TableKind table = TableKind::scalar) {
  KernelSpec spec = spec_of(bits, group, n, k, m, dtype, table);
  spec.format.offsets = true;
  return spec;
}

std::vector<KernelRequest> every_format(std::int64_t n, std::int64_t k, std::int64_t m) {
  std::vector<KernelRequest> requests;
  for (const int bits : {1, 2, 3, 4}) {
    for (const int group : kGroups) {
      for (const DataType dtype : {DataType::f16, DataType::bf16}) {
        const TableKind table = bits == 2 ? TableKind::pair : TableKind::scalar;
        requests.push_back({spec_with_offsets(bits, group, n, k, m, dtype, table), std::nullopt});
      }
    }
  }
  return requests;
}

TEST_F(OffsetsOnGpu, EveryFormatIsRightForFewTokensAndForMany) {
  for (const std::int64_t m : {1, 8, 16, 64, 300}) {
    const std::vector<KernelRequest> requests = every_format(200, 648, m);
    precompile(requests);
    std::uint64_t seed = 100;
    for (const KernelRequest& request : requests) expect_right(request, m, {}, {.seed = ++seed});
  }
}

TEST_F(OffsetsOnGpu, EveryFamilyAndWeightStreamIsRight) {
  std::vector<KernelRequest> requests;
  for (const Schedule& schedule : schedules_of_every_stream()) {
    for (const int group : {32, 256, kPerChannel}) {
      const KernelSpec spec = spec_with_offsets(4, group, 150, 648, 8);
      if (validate(spec, schedule)) requests.push_back({spec, schedule});
    }
  }
  ASSERT_GE(requests.size(), 20U);
  precompile(requests);
  for (const KernelRequest& request : requests) {
    for (const int partitions : {0, 1, 3, 5}) {
      expect_right(request, 75, {.partitions = partitions, .activation_padding = 8, .output_padding = 3});
    }
  }
}

/// Of X = identity: scale * value + offset, rounded once, or by way of fp32 where sums are scaled.
void expect_weights(const KernelRequest& request, bool by_way_of_floats) {
  SCOPED_TRACE(describe(request));
  const WeightFormat& format = request.spec.format;
  Problem problem = make_problem(request.spec, 1);
  set_identity_rows(problem, 0, format.k);
  const std::vector<std::uint16_t> result = Multiplication(problem).run(get_kernel(request));
  const std::vector<double> weights = must(dequantize(problem.matrix));
  std::int64_t wrong = 0;
  for (std::int64_t i = 0; i < format.k * format.n; ++i) {
    const double weight = weights[static_cast<std::size_t>(i % format.n * format.k + i / format.n)];
    const std::uint16_t expected =
        by_way_of_floats ? to_bits(static_cast<float>(weight), format.dtype) : nearest(weight, format.dtype);
    const std::uint16_t given = result[static_cast<std::size_t>(i)];
    // Zeros of either sign are one.
    if (given != expected && ((given | expected) & 0x7fff) != 0) ++wrong;
  }
  EXPECT_EQ(wrong, 0) << "of " << format.n * format.k << " weights";
}

TEST_F(OffsetsOnGpu, IdentityGivesEveryDequantizedWeight) {
  for (const int group : kGroups) {
    for (const DataType dtype : {DataType::f16, DataType::bf16}) {
      const KernelSpec spec = spec_with_offsets(4, group, 136, 328, 8, dtype);
      expect_weights({spec, FewTokensSchedule{.tile_rows = 32, .tile_tokens = 8, .warps = 3}}, true);
      expect_weights({spec, FewTokensSchedule{.tile_rows = 16, .tile_tokens = 1, .warps = 2}}, true);
      expect_weights({spec, MultistageSchedule{}}, false);
      const ManyTokensSchedule many;
      if (validate(spec, many)) expect_weights({spec, many}, false);
    }
  }
}

// Codes with zero points: the products of codes and of zero points are large, and nearly cancel.
TEST_F(OffsetsOnGpu, ZeroPointsThatCancelMostOfTheProductAreRight) {
  for (const std::int64_t m : {1, 8, 64}) {
    const KernelRequest request{spec_with_offsets(4, 128, 200, 1024, m), std::nullopt};
    Problem problem = make_problem(request.spec, m);
    QuantizedMatrix& matrix = problem.matrix;
    for (std::size_t code = 0; code < 16; ++code) {
      matrix.table[code] = to_bits(static_cast<float>(code), DataType::f16);
    }
    for (std::size_t i = 0; i < matrix.scales.size(); ++i) {
      const float scale = std::fabs(from_bits(matrix.scales[i], DataType::f16));
      matrix.scales[i] = to_bits(scale, DataType::f16);
      matrix.offsets[i] = to_bits(-7.5F * scale, DataType::f16);
    }
    repack(problem);
    expect_right(request, problem);
  }
}

}  // namespace
}  // namespace lutsmith::gpu_test
