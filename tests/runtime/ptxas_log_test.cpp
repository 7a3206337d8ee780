#include "runtime/ptxas_log.h"

#include <gtest/gtest.h>

namespace lutsmith {
namespace {

TEST(PtxasLog, FactsAreReadFromTheReport) {
  const auto facts = parse_ptxas_log(
      "ptxas info    : 0 bytes gmem\n"
      "ptxas info    : Compiling entry function 'kern' for 'sm_80'\n"
      "ptxas info    : Function properties for kern\n"
      "ptxas         .     40 bytes stack frame, 24 bytes spill stores, 36 bytes spill loads\n"
      "ptxas info    : Used 255 registers, used 1 barriers, 4096 bytes smem, 372 bytes cmem[0]\n");
  ASSERT_TRUE(facts.has_value());
  EXPECT_EQ(facts->registers, 255);
  EXPECT_EQ(facts->static_shared_bytes, 4096);
  EXPECT_EQ(facts->spill_bytes, 60);
}

TEST(PtxasLog, KernelWithoutSharedMemoryHasNone) {
  const auto facts = parse_ptxas_log("ptxas info    : Used 14 registers, 372 bytes cmem[0]");
  ASSERT_TRUE(facts.has_value());
  EXPECT_EQ(facts->static_shared_bytes, 0);
  EXPECT_EQ(facts->spill_bytes, 0);
}

TEST(PtxasLog, ArraysInLocalMemoryCountAsSpills) {
  const auto facts = parse_ptxas_log(
      "ptxas         .     176 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads\n"
      "ptxas info    : Used 102 registers, used 1 barriers, 372 bytes cmem[0]\n");
  ASSERT_TRUE(facts.has_value());
  EXPECT_EQ(facts->spill_bytes, 176);
}

TEST(PtxasLog, OtherTextHasNoFacts) {
  EXPECT_FALSE(parse_ptxas_log("").has_value());
  EXPECT_FALSE(parse_ptxas_log("k.cu(1): error: registers are out of fashion").has_value());
}

}  // namespace
}  // namespace lutsmith
