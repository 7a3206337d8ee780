#include <gtest/gtest.h>

#include <chrono>
#include <cstdio>
#include "emulation.h"

namespace lutsmith::emulator_test {
namespace {

TEST(Emulated, First) {
  KernelSpec spec{.bits = 4, .group = 128, .n = 40, .k = 264, .m = 1, .target = *Target::parse("sm_90a")};
  for (WeightPath path : {WeightPath::registers, WeightPath::async_copy, WeightPath::bulk_copy}) {
    auto t = std::chrono::steady_clock::now();
    expect_right(spec,
                 {.tile_rows = 16,
                  .tile_tokens = 8,
                  .warps = 2,
                  .weights = path,
                  .stages = 2,
                  .dependent_launch = true},
                 3);
    std::printf("%.2f s\n", std::chrono::duration<double>(std::chrono::steady_clock::now() - t).count());
  }
}

}  // namespace
}  // namespace lutsmith::emulator_test
