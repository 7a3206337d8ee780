// What a kernel can do wrong with the asynchronous products of a warpgroup.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cstdint>
#include <functional>
#include <string>

#include "primitive_kernels.h"

namespace lutsmith::emulator_test {
namespace {

using namespace device;
using testing::AllOf;
using testing::ContainsRegex;
using testing::HasSubstr;

constexpr int kGroup = 128;          // the warpgroup that multiplies; a warp more looks on
constexpr int kOperandBytes = 2048;  // 16 tokens of 64 k
constexpr int kOtherOperand = kOperandBytes;
constexpr int kBarrier = 2 * kOperandBytes;
constexpr int kFlag = kBarrier + 64;
constexpr GridShape kShape{.threads = kGroup + 32, .shared_bytes = kFlag + 64};

bool multiplies() { return thread_index() < kGroup; }

unsigned int* word_at(int byte) { return reinterpret_cast<unsigned int*>(dynamic_shared() + byte); }
Mbarrier* barrier() { return reinterpret_cast<Mbarrier*>(dynamic_shared() + kBarrier); }

/// What a thread of the warpgroup multiplies, and adds to.
struct Registers {
  unsigned int a[4] = {};
  float sums[8] = {};
  float others[8] = {};
};

void fill(int operand) {
  for (int word = thread_index(); multiplies() && word < kOperandBytes / 4; word += kGroup) {
    store_shared(word_at(operand + 4 * word), 0U);
  }
}

/// One product, from one wait to the next; the parts between which a mistake can stand.
void issue(Registers& registers, int operand = 0, bool accumulate = false) {
  multiply_async<Element::f16>(registers.sums, registers.a, describe_operand(dynamic_shared() + operand),
                               accumulate);
}

void begin_products() {
  fill(0);
  fill(kOtherOperand);
  fence_barrier_initialization();
  block_barrier();
}

using Step = std::function<void(Registers&)>;

/// The fault of a kernel that multiplies once, with something after each part, done by all threads of the
/// block.
struct Product {
  Step after_fence = [](Registers&) {};
  Step after_issue = [](Registers&) {};
  Step after_wait = [](Registers&) {};
  bool accumulate = false;

  std::string fault(const Regions& regions = {}) const {
    return fault_of(kShape, with_primitives([this] {
                      begin_products();
                      Registers registers;
                      if (multiplies()) fence_registers();
                      after_fence(registers);
                      if (multiplies()) issue(registers, 0, accumulate);
                      if (multiplies()) commit_products();
                      after_issue(registers);
                      if (multiplies()) wait_products<0>();
                      after_wait(registers);
                    }),
                    regions);
  }
};

/// The one at fault and its line come first. Where every thread makes the mistake, any may be the one.
auto is_fault_of_some_thread(const std::string& what) {
  return ContainsRegex("^block 0, thread [0-9]+, line [1-9][0-9]*: .*" + what);
}
auto is_fault(int thread, const std::string& what) {
  return ContainsRegex("^block 0, thread " + std::to_string(thread) + ", line [1-9][0-9]*: .*" + what);
}

constexpr const char* kUnwritten = "uses a register that nothing was written to";

// Sums.

TEST(WarpgroupMistakes, NoneIsNoFault) { EXPECT_EQ(Product{}.fault(), ""); }

TEST(WarpgroupMistakes, SumsStoredBeforeTheWaitAreReported) {
  const Step store = [](Registers& registers) {
    if (thread_index() == 37) store_shared(word_at(kFlag), bits_of(registers.sums[3]));
  };
  EXPECT_THAT(Product{.after_issue = store}.fault(), is_fault(37, kUnwritten));
  EXPECT_EQ(Product{.after_wait = store}.fault(), "");
}

TEST(WarpgroupMistakes, SumsAddedUpBeforeTheWaitAreReported) {
  const Step add = [](Registers& registers) {
    if (thread_index() == 37)
      registers.others[0] = multiply_add(registers.sums[7], 2.0F, registers.others[0]);
  };
  EXPECT_THAT(Product{.after_issue = add}.fault(), is_fault(37, kUnwritten));
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
  const char* const kChanged = "adds to sums that have changed since fence_registers";
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
              is_fault(64, kUnwritten));
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
              is_fault(3, kUnwritten));
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

// B.

TEST(WarpgroupMistakes, StoreOverBBeforeTheWaitIsReported) {
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

TEST(WarpgroupMistakes, OnlyTheSixteenKThatAreMultipliedAreRead) {
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

TEST(WarpgroupMistakes, BulkCopyOverBBeforeTheWaitIsReported) {
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

TEST(WarpgroupMistakes, StoreOverBByOneWhoKnowsOfNoWaitIsReported) {
  EXPECT_EQ(fault_of_store_over(0, false), "");
  EXPECT_EQ(fault_of_store_over(kGroup, true), "") << "one warp's wait is enough for all four";
}

TEST(WarpgroupMistakes, StoreOverBWithoutABarrierBehindTheWaitIsReported) {
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

TEST(WarpgroupMistakes, BThatWasNotWrittenFencedOrAnnouncedIsReported) {
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

TEST(WarpgroupMistakes, BOfACopyThatAThreadHasNotWaitedForIsReported) {
  EXPECT_EQ(fault_of_copied_operand(kGroup), "");
  EXPECT_THAT(
      fault_of_copied_operand(64),
      is_fault(64,
               "multiplies shared byte 0 that the bulk copy issued at line [1-9][0-9]* brought, without "
               "waiting for its mbarrier"));
}

TEST(WarpgroupMistakes, BOfACopyUnderWayIsReported) {
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

TEST(WarpgroupMistakes, DescriptionThatIsNoOperandIsReported) {
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
  EXPECT_THAT(fault_of_reading(true, false), is_fault(8, kUnwritten));
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
              is_fault(8, kUnwritten));
}

}  // namespace
}  // namespace lutsmith::emulator_test
