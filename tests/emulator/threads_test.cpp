// How threads, warps and barriers run, and what goes wrong among them.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cstddef>
#include <string>
#include <vector>

#include "lambda_kernels.h"

namespace lutsmith::emulator_test {
namespace {

using testing::AllOf;
using testing::HasSubstr;

// Shapes.

TEST(EmulatedMachine, ShapeThatNoGridHasIsRefused) {
  const auto refused = [](const GridShape& shape) {
    const auto ran =
        run_grid(shape, {}, BlockOrder::ascending, [](Machine&) { ADD_FAILURE() << "a thread ran"; });
    if (ran) return std::string("nothing");
    EXPECT_EQ(ran.error().code, ErrorCode::invalid_argument);
    return ran.error().message;
  };
  EXPECT_THAT(refused({.threads = 33}), HasSubstr("threads"));
  EXPECT_THAT(refused({.threads = 0}), HasSubstr("threads"));
  EXPECT_THAT(refused({.threads = -32}), HasSubstr("threads"));
  EXPECT_THAT(refused({.blocks = 0}), HasSubstr("blocks"));
  EXPECT_THAT(refused({.shared_bytes = -1}), HasSubstr("shared_bytes"));
}

// Threads and warps.

TEST(EmulatedMachine, RunsEveryThreadOfEveryBlockOnceInEveryOrder) {
  for (const BlockOrder order : {BlockOrder::ascending, BlockOrder::descending, BlockOrder::interleaved}) {
    std::vector<int> runs(7 * 64);
    std::vector<int> blocks;
    EXPECT_EQ(fault_of(
                  {.blocks = 7, .threads = 64},
                  [&](Machine& machine) {
                    if (machine.thread_index() == 0) blocks.push_back(machine.block_index());
                    machine.block_barrier();
                    ++runs[static_cast<std::size_t>(machine.block_index() * 64 + machine.thread_index())];
                  },
                  {}, order),
              "");
    EXPECT_THAT(runs, testing::Each(1));
    if (order == BlockOrder::descending) {
      EXPECT_THAT(blocks, testing::ElementsAre(6, 5, 4, 3, 2, 1, 0));
    }
  }
}

TEST(EmulatedMachine, InterleavedBlocksAreUnderWayTogether) {
  int begun = 0;
  int seen_by_first = 0;
  EXPECT_EQ(fault_of(
                {.blocks = 3, .threads = 32},
                [&](Machine& machine) {
                  if (machine.thread_index() == 0) ++begun;
                  machine.block_barrier();
                  if (seen_by_first == 0) seen_by_first = begun;
                },
                {}, BlockOrder::interleaved),
            "");
  EXPECT_EQ(seen_by_first, 3);
}

TEST(EmulatedMachine, VotesAndShufflesReachEveryLane) {
  EXPECT_EQ(fault_of(kWarp,
                     [](Machine& machine) {
                       begin(machine, 1);
                       const auto lane = static_cast<unsigned int>(machine.thread_index());
                       EXPECT_EQ(machine.ballot(lane % 3 == 0), 0x49249249U);
                       EXPECT_EQ(machine.shuffle(100 + lane, static_cast<int>(lane ^ 5)), 100 + (lane ^ 5));
                     }),
            "");
}

TEST(EmulatedMachine, LdmatrixGivesEachLaneTheWordPtxNames) {
  EXPECT_EQ(fault_of(kWarp,
                     [](Machine& machine) {
                       begin(machine, 1);
                       const int lane = machine.thread_index();
                       // Row lane % 8 of matrix lane / 8: its word w holds 1000 * matrix + 10 * row + w.
                       for (int w = 0; w < 4; ++w) {
                         store(machine, lane * 16 + w * 4,
                               static_cast<std::uint32_t>(1000 * (lane / 8) + 10 * (lane % 8) + w));
                       }
                       machine.warp_barrier();
                       unsigned int words[4];
                       machine.load_matrices(words, machine.dynamic_shared() + lane * 16);
                       for (int matrix = 0; matrix < 4; ++matrix) {
                         EXPECT_EQ(words[matrix],
                                   static_cast<unsigned int>(1000 * matrix + 10 * (lane / 4) + lane % 4));
                       }
                     }),
            "");
}

TEST(EmulatedMachine, LanesAtDifferentOperationsAreReported) {
  EXPECT_THAT(fault_of(kWarp,
                       [](Machine& machine) {
                         begin(machine, machine.thread_index() == 9 ? 20 : 10);
                         machine.ballot(true);
                       }),
              AllOf(HasSubstr("thread 9, line 20"), HasSubstr("of line 10")));
}

// Barriers.

TEST(EmulatedMachine, BarrierThatOneThreadNeverReachesIsADeadlockWithEveryPlace) {
  EXPECT_THAT(fault_of(kTwoWarps,
                       [](Machine& machine) {
                         begin(machine, 33);
                         if (machine.thread_index() != 5) machine.block_barrier();
                       }),
              AllOf(HasSubstr("deadlock"), HasSubstr("63 threads from 0 on at line 33"),
                    HasSubstr("1 thread has ended")));
}

TEST(EmulatedMachine, ThreadsAtDifferentBarriersAreReported) {
  EXPECT_THAT(fault_of(kTwoWarps,
                       [](Machine& machine) {
                         begin(machine, machine.thread_index() < 32 ? 4 : 8);
                         machine.block_barrier();
                       }),
              HasSubstr("threads that wait at line 4"));
}

TEST(EmulatedMachine, NamedBarrierJoinsItsThreadsOnly) {
  const auto kernel = [](bool second_warp_reads) {
    return [second_warp_reads](Machine& machine) {
      begin(machine, 1);
      const int thread = machine.thread_index();
      if (thread == 0) store(machine, 0, 42);
      if (thread < 32) machine.named_barrier(1, 32);
      if (thread == 1 || (second_warp_reads && thread == 40)) {
        EXPECT_EQ(load(machine, 0), 42U);
      }
    };
  };
  EXPECT_EQ(fault_of(kTwoWarps, kernel(false)), "");
  EXPECT_THAT(fault_of(kTwoWarps, kernel(true)), HasSubstr("with no barrier between"));
}

TEST(EmulatedMachine, NamedBarrierOfOthersIsReportedUnlessSomethingOrdersTheTwo) {
  // The warps that come second might as well come among the first.
  const auto fault = [](int threads_of_second, bool ordered) {
    return fault_of({.threads = 128}, [=](Machine& machine) {
      begin(machine, 1);
      const bool first = machine.thread_index() < 64;
      if (first) machine.named_barrier(1, 64);
      machine.line = 2;
      if (ordered) machine.block_barrier();
      machine.line = 1;
      if (!first || threads_of_second == 128) machine.named_barrier(1, threads_of_second);
    });
  };
  EXPECT_EQ(fault(64, true), "");
  EXPECT_EQ(fault(128, true), "");
  EXPECT_THAT(fault(64, false), HasSubstr("is at named barrier 1, where thread"));
}

// Registers.

TEST(EmulatedMachine, RegisterThatNothingWasWrittenToIsReported) {
  EXPECT_THAT(fault_of(kWarp,
                       [](Machine& machine) {
                         begin(machine, 1);
                         store(machine, 0, machine.integer_poison);
                       }),
              HasSubstr("a register that nothing was written to"));
  EXPECT_THAT(fault_of(kWarp,
                       [](Machine& machine) {
                         begin(machine, 1);
                         machine.from_float(std::bit_cast<float>(machine.float_poison), false);
                       }),
              HasSubstr("a register that nothing was written to"));
}

}  // namespace
}  // namespace lutsmith::emulator_test
