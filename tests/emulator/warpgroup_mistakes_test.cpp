// What a kernel can do wrong with the asynchronous products of a warpgroup: their registers and their order.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <functional>
#include <string>

#include "warpgroup_kernels.h"

namespace lutsmith::emulator_test {
namespace {

using testing::AllOf;
using testing::HasSubstr;

// Sums.

TEST(WarpgroupMistakes, NoneIsNoFault) { EXPECT_EQ(Product{}.fault(), ""); }

TEST(WarpgroupMistakes, SumsStoredBeforeTheWaitAreReported) {
  const Step store = [](Registers& registers) {
    if (thread_index() == 37) store_shared(word_at(kFlag), bits_of(registers.sums[3]));
  };
  EXPECT_THAT(Product{.after_issue = store}.fault(), is_fault(37, kUnwrittenRegister));
  EXPECT_EQ(Product{.after_wait = store}.fault(), "");
}

TEST(WarpgroupMistakes, SumsAddedUpBeforeTheWaitAreReported) {
  const Step add = [](Registers& registers) {
    if (thread_index() == 37)
      registers.others[0] = multiply_add(registers.sums[7], 2.0F, registers.others[0]);
  };
  EXPECT_THAT(Product{.after_issue = add}.fault(), is_fault(37, kUnwrittenRegister));
  EXPECT_EQ(Product{.after_wait = add}.fault(), "");
}

TEST(WarpgroupMistakes, SumsWrittenBeforeTheWaitAreReported) {
  const Step write = [](Registers& registers) {
    if (thread_index() == 100) registers.sums[7] = 0;
  };
  EXPECT_THAT(
      Product{.after_issue = write}.fault(),
      is_fault(100, "has written sums since the product issued at line [1-9][0-9]*, without waiting for it"));
  EXPECT_EQ(Product{.after_wait = write}.fault(), "");
}

TEST(WarpgroupMistakes, SumsWrittenAfterTheFenceAreReportedWhereTheyAreAddedTo) {
  const Step write = [](Registers& registers) {
    if (thread_index() == 5) registers.sums[7] = 1;
  };
  constexpr const char* kChanged = "adds to sums that have changed since fence_registers";
  EXPECT_THAT((Product{.after_fence = write, .accumulate = true}.fault()), is_fault(5, kChanged));
  EXPECT_EQ(Product{.after_fence = write}.fault(), "");
}

TEST(WarpgroupMistakes, SumsThatNobodyWroteAreReportedWhereTheyAreAddedTo) {
  EXPECT_THAT(fault_of(kShape, with_primitives([] {
                         begin_products();
                         Registers registers;
                         if (thread_index() == 64) {
                           registers.sums[2] = std::bit_cast<float>(emulator::machine(__LINE__).float_poison);
                         }
                         if (multiplies()) fence_registers();
                         if (multiplies()) issue(registers, 0, true);
                         block_barrier();
                       })),
              is_fault(64, kUnwrittenRegister));
}

TEST(WarpgroupMistakes, SumsOfWhichOthersArePartAreReported) {
  EXPECT_THAT(fault_of(kShape, with_primitives([] {
                         begin_products();
                         if (!multiplies()) return;
                         const unsigned int a[4] = {};
                         float sums[16] = {};
                         float(&second_half)[8] = *reinterpret_cast<float(*)[8]>(sums + 8);
                         fence_registers();
                         multiply_async<Element::f16>(sums, a, describe_operand(dynamic_shared()), false);
                         multiply_async<Element::f16>(second_half, a, describe_operand(dynamic_shared()),
                                                      false);
                       })),
              is_fault(0, "multiplies into sums of which others are part"));
}

// A.

TEST(WarpgroupMistakes, AWrittenBeforeTheWaitIsReported) {
  const Step write = [](Registers& registers) {
    if (thread_index() == 99) registers.a[3] = 1;
  };
  EXPECT_THAT(
      Product{.after_issue = write}.fault(),
      is_fault(99, "has changed A since the product issued at line [1-9][0-9]*, without waiting for it"));
  EXPECT_EQ(Product{.after_wait = write}.fault(), "");
}

TEST(WarpgroupMistakes, AWrittenAfterTheFenceIsReported) {
  const Step write = [](Registers& registers) {
    if (thread_index() == 99) registers.a[3] = 1;
  };
  EXPECT_THAT(Product{.after_fence = write}.fault(),
              is_fault(99, "multiplies by an A that has changed since fence_registers"));
}

TEST(WarpgroupMistakes, AThatNobodyWroteIsReported) {
  EXPECT_THAT(fault_of(kShape, with_primitives([] {
                         begin_products();
                         Registers registers;
                         if (thread_index() == 3) registers.a[1] = emulator::machine(__LINE__).integer_poison;
                         if (multiplies()) fence_registers();
                         if (multiplies()) issue(registers);
                         block_barrier();
                       })),
              is_fault(3, kUnwrittenRegister));
}

std::string fault_without_fence(bool first, bool second) {
  return fault_of(kShape, with_primitives([=] {
                    begin_products();
                    if (!multiplies()) return;
                    Registers registers;
                    for (const bool fence : {first, second}) {
                      if (fence) fence_registers();
                      issue(registers);
                      commit_products();
                      wait_products<0>();
                    }
                  }));
}

TEST(WarpgroupMistakes, FenceThatIsMissingAtFirstOrAfterAWaitIsReported) {
  constexpr const char* kMissing = "multiplies without fence_registers";
  EXPECT_EQ(fault_without_fence(true, true), "");
  EXPECT_THAT(fault_without_fence(false, true), is_fault_of_some_thread(kMissing));
  EXPECT_THAT(fault_without_fence(true, false), is_fault_of_some_thread(kMissing));
}

// The warpgroup.

std::string fault_of_group(const std::function<void(Registers&, int warp)>& products,
                           const GridShape& shape = kShape) {
  return fault_of(shape, with_primitives([=] {
                    begin_products();
                    if (!multiplies()) return;
                    Registers registers;
                    fence_registers();
                    products(registers, thread_index() / 32);
                    wait_products<0>();
                  }));
}

TEST(WarpgroupMistakes, WarpsThatIssueDifferentProductsAreReported) {
  constexpr const char* kDifferent =
      "issues another product than the first thread of its warpgroup did at line";
  EXPECT_THAT(fault_of_group([](Registers& registers, int warp) {
                issue(registers, warp == 2 ? kOtherOperand : 0);
                commit_products();
              }),
              is_fault(64, kDifferent));
  EXPECT_THAT(fault_of_group([](Registers& registers, int warp) {
                issue(registers, 0, warp == 3);
                commit_products();
              }),
              is_fault(96, kDifferent));
  EXPECT_THAT(fault_of_group([](Registers& registers, int warp) {
                issue(registers);
                if (warp != 1) commit_products();
                issue(registers);
                commit_products();
              }),
              is_fault(32, kDifferent));
}

TEST(WarpgroupMistakes, WarpThatIssuesNothingIsADeadlock) {
  EXPECT_THAT(
      fault_of_group([](Registers& registers, int warp) {
        if (warp != 2) issue(registers);
        commit_products();
      }),
      AllOf(HasSubstr("deadlock"), HasSubstr("waiting for products that its warpgroup has not issued")));
}

TEST(WarpgroupMistakes, LaneThatDoesNotWaitIsADeadlock) {
  EXPECT_THAT(fault_of(kShape, with_primitives([] {
                         begin_products();
                         if (!multiplies()) return;
                         Registers registers;
                         fence_registers();
                         issue(registers);
                         commit_products();
                         if (thread_index() != 40) {
                           wait_products<0>();
                         } else {
                           named_barrier(1, 32);
                         }
                       })),
              AllOf(HasSubstr("deadlock"), HasSubstr("31 threads from 32 on"), HasSubstr("wait_products()")));
}

TEST(WarpgroupMistakes, ProductsThatNobodyWaitsForAreReported) {
  constexpr const char* kLeft = "ends while products it issued are under way";
  EXPECT_THAT(fault_of_group([](Registers& registers, int) { issue(registers); }),
              is_fault_of_some_thread(kLeft));
}

TEST(WarpgroupMistakes, ThreadsOutsideOfAWarpgroupAreReported) {
  EXPECT_THAT(fault_of(kShape, with_primitives([] { fence_registers(); })),
              is_fault(kGroup, "belongs to no warpgroup"));
}

// Groups of products.

/// Two products into sums of their own, each its group; then the sums of one are read.
std::string fault_of_reading(bool second, bool all_waited) {
  return fault_of(kShape, with_primitives([=] {
                    begin_products();
                    if (!multiplies()) return;
                    Registers registers;
                    fence_registers();
                    issue(registers);
                    commit_products();
                    multiply_async<Element::f16>(registers.others, registers.a,
                                                 describe_operand(dynamic_shared()), false);
                    commit_products();
                    if (all_waited) {
                      wait_products<0>();
                    } else {
                      wait_products<1>();
                    }
                    const float sum = second ? registers.others[0] : registers.sums[0];
                    if (thread_index() == 8) store_shared(word_at(kFlag), bits_of(sum));
                    wait_products<0>();
                  }));
}

TEST(WarpgroupMistakes, SumsOfAYoungerGroupThanWasWaitedForAreReported) {
  EXPECT_EQ(fault_of_reading(false, true), "");
  EXPECT_EQ(fault_of_reading(true, true), "");
  EXPECT_EQ(fault_of_reading(false, false), "");
  EXPECT_THAT(fault_of_reading(true, false), is_fault(8, kUnwrittenRegister));
}

TEST(WarpgroupMistakes, SumsThatAYoungerGroupStillAddsToAreReported) {
  EXPECT_THAT(fault_of_group([](Registers& registers, int) {
                issue(registers);
                commit_products();
                issue(registers, 0, true);
                commit_products();
                wait_products<1>();
                if (thread_index() == 8) store_shared(word_at(kFlag), bits_of(registers.sums[0]));
              }),
              is_fault(8, kUnwrittenRegister));
}

TEST(WarpgroupMistakes, StoreWithoutAFenceIsReportedInEveryBlockOfACluster) {
  GridShape pair = kShape;
  pair.blocks = 2;
  pair.cluster_blocks = 2;
  const auto fault = [&](int block_without_fence) {
    return fault_of(pair, with_primitives([block_without_fence] {
                      fill(0);
                      if (block_index() != block_without_fence) fence_barrier_initialization();
                      block_barrier();
                      if (!multiplies()) return;
                      Registers registers;
                      fence_registers();
                      issue(registers);
                      commit_products();
                      wait_products<0>();
                    }));
  };
  EXPECT_EQ(fault(-1), "");
  for (const int block : {0, 1}) {
    EXPECT_THAT(
        fault(block),
        AllOf(HasSubstr("block " + std::to_string(block) + ", thread"),
              testing::ContainsRegex("multiplies what thread [0-9]+ stored at line [0-9]+, with no fence_")));
  }
}

}  // namespace
}  // namespace lutsmith::emulator_test
