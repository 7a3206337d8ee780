// What a kernel can do wrong with B of a warpgroup's product, which lies in shared memory.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <string>

#include "warpgroup_kernels.h"

namespace lutsmith::emulator_test {
namespace {

using testing::ContainsRegex;
using testing::HasSubstr;

TEST(WarpgroupOperand, StoreOverBBeforeTheWaitIsReported) {
  for (const int thread : {17, kGroup + 1}) {
    const Step store = [thread](Registers&) {
      named_barrier(1, kShape.threads);  // all have issued
      if (thread_index() == thread) store_shared(word_at(1024 + 128 + 16), 1U);
      block_barrier();
    };
    EXPECT_THAT(
        Product{.after_issue = store}.fault(),
        is_fault(thread, "writes shared byte 1168 while the product issued at line [1-9][0-9]* reads it"));
  }
}

TEST(WarpgroupOperand, OnlyTheSixteenKThatAreMultipliedAreRead) {
  // Those of token 9 are pieces 0 and 1, which stand at 0 ^ 1 and 1 ^ 1.
  const auto store_at = [](int byte) {
    return Product{.after_issue =
                       [byte](Registers&) {
                         named_barrier(1, kShape.threads);
                         if (thread_index() == 17) store_shared(word_at(1024 + 128 + byte), 1U);
                       }}
        .fault();
  };
  constexpr const char* kRead = "while the product issued at line";
  EXPECT_THAT(store_at(0), HasSubstr(kRead));
  EXPECT_THAT(store_at(28), HasSubstr(kRead));
  EXPECT_EQ(store_at(32), "");
  EXPECT_EQ(store_at(124), "");
}

TEST(WarpgroupOperand, BulkCopyOverBBeforeTheWaitIsReported) {
  Memory memory;
  const Step copy = [&](Registers&) {
    if (thread_index() == kGroup) {
      initialize_barrier(barrier(), 1);
      fence_barrier_initialization();
      arrive_expecting(barrier(), 16);
    }
    named_barrier(1, kShape.threads);
    if (thread_index() == kGroup) {
      copy_bulk(dynamic_shared(), reinterpret_cast<const unsigned char*>(memory.weights), 16, barrier());
    }
    block_barrier();
  };
  EXPECT_THAT(Product{.after_issue = copy}.fault(memory.regions()),
              is_fault(kGroup, "writes shared byte 0 while the product issued at line"));
}

/// Afterwards a thread stores over B that has waited itself, or comes after one that has, or neither.
std::string fault_of_store_over(int thread, bool barrier_behind) {
  return Product{.after_wait =
                     [=](Registers&) {
                       if (barrier_behind && (thread_index() < 32 || !multiplies())) named_barrier(1, 64);
                       if (thread_index() == thread) store_shared(word_at(0), 1U);
                     }}
      .fault();
}

TEST(WarpgroupOperand, StoreOverBByOneWhoKnowsOfNoWaitIsReported) {
  EXPECT_EQ(fault_of_store_over(0, false), "");
  EXPECT_EQ(fault_of_store_over(kGroup, true), "") << "one warp's wait is enough for all four";
}

TEST(WarpgroupOperand, StoreOverBWithoutABarrierBehindTheWaitIsReported) {
  // The other warp comes when everybody has waited, but nothing says so.
  EXPECT_THAT(fault_of(kShape, with_primitives([] {
                         begin_products();
                         Registers registers;
                         if (multiplies()) {
                           fence_registers();
                           issue(registers);
                           commit_products();
                           wait_products<0>();
                           return;
                         }
                         for (int i = 0; i < 100; ++i) all_lanes(true);
                         if (thread_index() == kGroup) store_shared(word_at(0), 1U);
                       })),
              is_fault(kGroup,
                       "writes shared byte 0 that the product issued at line [1-9][0-9]* read, without "
                       "waiting for it"));
}

struct OperandFill {
  bool filled = true;
  bool fence = true;
  bool barrier = true;
};

std::string fault_of_filled(const OperandFill& fill_as) {
  return fault_of(kShape, with_primitives([=] {
                    if (fill_as.filled) fill(0);
                    if (fill_as.fence) fence_barrier_initialization();
                    if (fill_as.barrier) block_barrier();
                    if (!multiplies()) return;
                    Registers registers;
                    fence_registers();
                    issue(registers);
                    commit_products();
                    wait_products<0>();
                  }));
}

TEST(WarpgroupOperand, BThatWasNotWrittenFencedOrAnnouncedIsReported) {
  EXPECT_EQ(fault_of_filled({}), "");
  EXPECT_THAT(fault_of_filled({.filled = false}),
              HasSubstr("multiplies shared byte 0, which nobody has written"));
  EXPECT_THAT(fault_of_filled({.fence = false}),
              ContainsRegex("multiplies what thread [0-9]+ stored at line [1-9][0-9]*, with no "
                            "fence_barrier_initialization"));
  EXPECT_THAT(fault_of_filled({.barrier = false}), HasSubstr("which nobody has written"));
}

/// B comes by a copy. The threads from `first_careless` on wait only for another copy, which comes after it.
std::string fault_of_copied_operand(int first_careless) {
  Memory memory;
  const auto* const from = reinterpret_cast<const unsigned char*>(memory.weights);
  return fault_of(kShape, with_primitives([=] {
                    Mbarrier* const another = barrier() + 1;
                    fill(0);
                    if (thread_index() == kGroup) {
                      initialize_barrier(barrier(), 1);
                      initialize_barrier(another, 1);
                    }
                    fence_barrier_initialization();
                    block_barrier();
                    if (thread_index() == kGroup) {
                      arrive_expecting(barrier(), 16);
                      copy_bulk(dynamic_shared(), from, 16, barrier());
                      arrive_expecting(another, 16);
                      copy_bulk(dynamic_shared() + kOtherOperand, from, 16, another);
                    }
                    block_barrier();
                    if (!multiplies()) return;
                    if (thread_index() < first_careless) wait_barrier(barrier(), 0);
                    wait_barrier(another, 0);
                    Registers registers;
                    fence_registers();
                    issue(registers);
                    commit_products();
                    wait_products<0>();
                  }),
                  memory.regions());
}

TEST(WarpgroupOperand, BOfACopyThatAThreadHasNotWaitedForIsReported) {
  EXPECT_EQ(fault_of_copied_operand(kGroup), "");
  EXPECT_THAT(
      fault_of_copied_operand(64),
      is_fault(64,
               "multiplies shared byte 0 that the bulk copy issued at line [1-9][0-9]* brought, without "
               "waiting for its mbarrier"));
}

TEST(WarpgroupOperand, BOfACopyUnderWayIsReported) {
  Memory memory;
  const Step copy = [&](Registers&) {
    if (thread_index() == 0) {
      initialize_barrier(barrier(), 1);
      fence_barrier_initialization();
      arrive_expecting(barrier(), 16);
      copy_bulk(dynamic_shared(), reinterpret_cast<const unsigned char*>(memory.weights), 16, barrier());
    }
  };
  EXPECT_THAT(Product{.after_fence = copy}.fault(memory.regions()),
              is_fault(0, "touches shared byte 0 while the copy issued at line [1-9][0-9]* is under way"));
}

TEST(WarpgroupOperand, DescriptionThatIsNoOperandIsReported) {
  const auto fault = [](unsigned long long change) {
    return fault_of(kShape, with_primitives([=] {
                      begin_products();
                      if (!multiplies()) return;
                      Registers registers;
                      fence_registers();
                      multiply_async<Element::f16>(registers.sums, registers.a,
                                                   describe_operand(dynamic_shared()) + change, false);
                      commit_products();
                      wait_products<0>();
                    }));
  };
  for (const unsigned long long change : {0ULL, 2ULL, 4ULL, 6ULL, 64ULL})
    EXPECT_EQ(fault(change), "") << change;
  for (const unsigned long long change : {1ULL, 3ULL, 8ULL, 16ULL, 32ULL}) {
    EXPECT_THAT(fault(change), is_fault(0, "which is no multiple of 1024, nor 32, 64 or 96 more")) << change;
  }
  for (const int bit : {16, 32, 40, 49, 62}) {
    EXPECT_THAT(fault(1ULL << bit), is_fault(0, "behind the address, describe_operand.. gives")) << bit;
  }
  EXPECT_THAT(fault(std::uint64_t{kShape.shared_bytes} / 1024 * 64), HasSubstr("nobody has written"));
  EXPECT_THAT(fault(std::uint64_t{8192} / 16),
              HasSubstr("touches 16 bytes at shared byte 8192; the block has"));
}

}  // namespace
}  // namespace lutsmith::emulator_test
