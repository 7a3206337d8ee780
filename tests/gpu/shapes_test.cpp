// Any N, any K that is a multiple of 8, any number of tokens.

#include <array>
#include <utility>

#include "machine.h"
#include "multiplication.h"
#include "problem.h"

namespace lutsmith::gpu_test {
namespace {

using ShapesOnGpu = GpuTest;

constexpr std::array<std::int64_t, 14> kTokens{1, 2, 3, 7, 8, 9, 16, 17, 33, 53, 65, 129, 512, 1024};

TEST_F(ShapesOnGpu, AnyNumberOfTokensIsRightWithEveryTokenTile) {
  std::vector<KernelRequest> requests;
  for (const int tile_tokens : {1, 8, 16}) {
    requests.push_back(
        {spec_of(4, 128, 100, 392, tile_tokens), FewTokensSchedule{.tile_tokens = tile_tokens, .warps = 2}});
    requests.push_back({spec_of(3, 64, 100, 392, tile_tokens, DataType::bf16),
                        FewTokensSchedule{.tile_rows = 16,
                                          .tile_tokens = tile_tokens,
                                          .warps = 4,
                                          .weights = WeightPath::async_copy,
                                          .stages = 3}});
  }
  precompile(requests);
  for (const KernelRequest& request : requests) {
    for (const std::int64_t m : kTokens) expect_right(request, m);
  }
}

TEST_F(ShapesOnGpu, DefaultSchedulesAreRightForTheTokensTheyAreTunedFor) {
  std::vector<KernelRequest> requests;
  for (const std::int64_t m : kTokens) requests.push_back({spec_of(4, 128, 160, 520, m), std::nullopt});
  precompile(requests);
  for (const KernelRequest& request : requests) expect_right(request, request.spec.m);
}

TEST_F(ShapesOnGpu, RowsAndColumnsThatFillNoPanelAreRight) {
  std::vector<KernelRequest> requests;
  for (const std::int64_t n : {1, 7, 15, 16, 17, 31, 32, 33, 100}) {
    for (const std::int64_t k : {8, 40, 120, 128, 136, 392, 1032}) {
      const std::int64_t m = (n + k) % 2 == 0 ? 1 : 9;
      requests.push_back({spec_of(static_cast<int>(2 + n % 3), 128, n, k, m), std::nullopt});
    }
  }
  precompile(requests);
  for (const KernelRequest& request : requests) expect_right(request, request.spec.m);
}

TEST_F(ShapesOnGpu, ColumnsShorterThanOnePanelAreRightForEveryGroupAndPath) {
  std::vector<KernelRequest> requests;
  for (const std::int64_t k : {8, 40, 120}) {
    for (const int group : {32, 64, 128, 256, kPerChannel}) {
      for (const WeightPath path : {WeightPath::registers, WeightPath::async_copy, WeightPath::bulk_copy}) {
        const KernelSpec spec = spec_of(3, group, 20, k, 3);
        const FewTokensSchedule schedule{.warps = 4, .weights = path, .stages = 2};
        if (validate(spec, schedule)) requests.push_back({spec, schedule});
      }
    }
  }
  precompile(requests);
  for (const KernelRequest& request : requests) expect_right(request, 3);
}

TEST_F(ShapesOnGpu, RaggedShapesOfRealModelsAreRight) {
  constexpr std::array<std::pair<std::int64_t, std::int64_t>, 4> kShapes{
      {{1000, 1032}, {2752, 4096}, {4096, 1376}, {5120, 3456}}};
  for (const auto& [n, k] : kShapes) {
    std::vector<KernelRequest> requests;
    for (const int bits : {1, 2, 3, 4}) {
      for (const std::int64_t m : {1, 16}) requests.push_back({spec_of(bits, 128, n, k, m), std::nullopt});
    }
    precompile(requests);
    for (const KernelRequest& request : requests) expect_right(request, request.spec.m);
  }
}

TEST_F(ShapesOnGpu, LastGroupThatIsCutShortIsRight) {
  std::vector<KernelRequest> requests;
  for (const int group : {32, 64, 128, 256}) {
    for (const std::int64_t k : {264, 520, 776, 904}) {
      requests.push_back({spec_of(4, group, 64, k, 2), FewTokensSchedule{.warps = 3}});
    }
  }
  precompile(requests);
  for (const KernelRequest& request : requests) expect_right(request, 2);
}

}  // namespace
}  // namespace lutsmith::gpu_test
