// The family for many tokens on any target: every tile, every number format, shapes that fill nothing, every
// cut of the work.

#include <algorithm>
#include <vector>

#include "codegen/multistage/multistage.h"
#include "machine.h"
#include "multiplication.h"
#include "problem.h"

namespace lutsmith::gpu_test {
namespace {

using MultistageOnGpu = GpuTest;

/// All that are proposed for some number of tokens.
std::vector<MultistageSchedule> all_tiles(const KernelSpec& spec) {
  std::vector<MultistageSchedule> tiles;
  for (const std::int64_t m : {17, 64, 1024}) {
    KernelSpec some = spec;
    some.m = m;
    for (const MultistageSchedule& tile : Multistage::candidates(some)) {
      if (std::ranges::find(tiles, tile) == tiles.end()) tiles.push_back(tile);
    }
  }
  return tiles;
}

std::vector<KernelRequest> with_all_tiles(const KernelSpec& spec) {
  std::vector<KernelRequest> requests;
  for (const MultistageSchedule& schedule : all_tiles(spec)) requests.push_back({spec, schedule});
  return requests;
}

TEST_F(MultistageOnGpu, EveryTileIsRightForAnyNumberOfTokens) {
  const std::vector<KernelRequest> requests = with_all_tiles(spec_of(4, 128, 384, 1024, 64));
  precompile(requests);
  ASSERT_GE(requests.size(), 10U);
  for (const KernelRequest& request : requests) {
    for (const std::int64_t m : {1, 2, 7, 17, 31, 32, 33, 53, 64, 65, 129, 256, 300, 512, 1024}) {
      expect_right(request, m);
    }
  }
}

TEST_F(MultistageOnGpu, EveryFormatIsRight) {
  std::vector<KernelRequest> requests;
  for (const int bits : {1, 2, 3, 4}) {
    for (const int group : {32, 64, 128, 256, kPerChannel}) {
      for (const DataType dtype : {DataType::f16, DataType::bf16}) {
        for (const TableKind table : {TableKind::scalar, TableKind::pair}) {
          if (table == TableKind::pair && group != 64) continue;
          const std::vector<KernelRequest> all =
              with_all_tiles(spec_of(bits, group, 160, 648, 40, dtype, table));
          // A third of the tiles, other ones for every format: there are many.
          for (std::size_t i = static_cast<std::size_t>(bits + group / 32) % 3; i < all.size(); i += 3) {
            requests.push_back(all[i]);
          }
        }
      }
    }
  }
  precompile(requests);
  std::uint64_t seed = 300;
  for (const KernelRequest& request : requests) expect_right(request, 70, {}, {.seed = ++seed});
}

TEST_F(MultistageOnGpu, RowsAndColumnsThatFillNoPanelAreRight) {
  std::vector<KernelRequest> requests;
  for (const std::int64_t n : {1, 7, 31, 32, 33, 100, 129, 200, 257}) {
    for (const std::int64_t k : {8, 40, 64, 72, 120, 136, 392, 1032}) {
      const std::vector<KernelRequest> all =
          with_all_tiles(spec_of(static_cast<int>(2 + n % 3), n % 2 == 0 ? 128 : 256, n, k, 40));
      requests.push_back(all[static_cast<std::size_t>(n + k) / 8 % all.size()]);
      requests.push_back(all[static_cast<std::size_t>(n + k / 8 + 5) % all.size()]);
    }
  }
  precompile(requests);
  for (const KernelRequest& request : requests) expect_right(request, 41);
}

TEST_F(MultistageOnGpu, EveryCutOfTheWorkIsRight) {
  const std::vector<KernelRequest> requests = with_all_tiles(spec_of(4, 128, 256, 1160, 100));
  precompile(requests);
  for (const KernelRequest& request : requests) {
    for (int partitions = 1; partitions <= 45; partitions += partitions < 12 ? 1 : 11) {
      expect_right(request, 100, {.partitions = partitions});
    }
  }
}

TEST_F(MultistageOnGpu, PaddedRowsOfXAreNotReadAndThoseOfYNotWritten) {
  const std::vector<KernelRequest> requests = with_all_tiles(spec_of(3, 64, 136, 264, 40));
  precompile(requests);
  for (const KernelRequest& request : requests) {
    for (const std::int64_t padding : {1, 3, 8}) {
      expect_right(request, 45, {.activation_padding = 8 * padding, .output_padding = padding});
    }
  }
}

TEST_F(MultistageOnGpu, LaunchesAfterEachOtherGiveTheSameBits) {
  const std::vector<KernelRequest> requests = with_all_tiles(spec_of(4, 128, 2048, 2048, 64));
  precompile(requests);
  for (const KernelRequest& request : requests) {
    SCOPED_TRACE(describe(request));
    const Kernel kernel = get_kernel(request);
    Multiplication multiplication(make_problem(request.spec, 64));
    const std::vector<std::uint16_t> first = multiplication.run(kernel);
    int different = 0;
    for (int i = 0; i < 300; ++i) different += multiplication.run(kernel) == first ? 0 : 1;
    EXPECT_EQ(different, 0);
  }
}

}  // namespace
}  // namespace lutsmith::gpu_test
