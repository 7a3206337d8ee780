// Blocks of a cluster that store into each other's shared memory, and what goes wrong between them.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "cluster_kernels.h"
#include "lambda_kernels.h"

namespace lutsmith::emulator_test {
namespace {

using testing::AllOf;
using testing::AnyOf;
using testing::ContainsRegex;
using testing::HasSubstr;

TEST(EmulatedCluster, BlocksExchangeWhatTheyHave) {
  for (const BlockOrder order : kOrders) {
    EXPECT_EQ(fault_of(kPair, exchanging({}), {}, order), "");
    GridShape several = kPair;
    several.blocks = 10;
    EXPECT_EQ(fault_of(several, exchanging({}), {}, order), "");
  }
}

TEST(EmulatedCluster, BytesReadBeforeTheirPhaseIsWaitedForAreReported) {
  EXPECT_THAT(fault_of(kPair, exchanging({.waits_for_full = false})),
              AnyOf(HasSubstr("while the store that block 1 issued at line 12 is under way"),
                    HasSubstr("which nobody has written")));
  // Lane 0 waits, and tells the others nothing of it.
  EXPECT_THAT(fault_of(kPair,
                       [](Machine& machine) {
                         begin(machine, 2);
                         if (machine.thread_index() == 0) {
                           machine.initialize_barrier(full_of(machine), 1);
                           machine.fence_barrier_initialization();
                           machine.arrive_expecting(full_of(machine), kStored);
                         }
                         meet_cluster(machine);
                         machine.line = 3;
                         if (machine.thread_index() == 0) {
                           push(machine, 0, 7, 1 - machine.cluster_rank());
                           machine.wait_barrier(full_of(machine), 0);
                         }
                         machine.line = 4;
                         machine.ballot(true);
                         EXPECT_EQ(load(machine, 0), 7U);
                       }),
              HasSubstr("line 4: reads shared byte 0 that the store that block 1 issued at line 3 brought, "
                        "without waiting for its mbarrier"));
}

TEST(EmulatedCluster, BytesThatAStoreIsOnItsWayToAreNobodysToWrite) {
  EXPECT_THAT(fault_of(kPair,
                       [](Machine& machine) {
                         begin(machine, 2);
                         if (machine.thread_index() == 0) {
                           machine.initialize_barrier(full_of(machine), 1);
                           machine.fence_barrier_initialization();
                         }
                         meet_cluster(machine);
                         machine.line = 3;
                         if (machine.block_index() == 0 && machine.thread_index() == 0)
                           push(machine, 0, 7, 1);
                         machine.line = 4;
                         machine.ballot(true);
                         if (machine.block_index() == 1) store(machine, 8, 1);
                       }),
              ContainsRegex(
                  "block 1, thread [0-9]+, line 4: touches shared byte 8 while the store that block 0 issued "
                  "at line 3 is under way"));
}

TEST(EmulatedCluster, PushBeforeTheOtherBlockHasFreedTheBytesIsReported) {
  EXPECT_THAT(fault_of(kPair, exchanging({.waits_for_free = false})),
              ContainsRegex("line 12: touches shared byte [0-9]+ while the store that block [01] issued at "
                            "line 12 is under way"));
  EXPECT_THAT(fault_of(kPair, exchanging({.uses = false})),
              ContainsRegex("line 12: copies over shared byte [0-9]+, which thread [0-9]+ of block [01] has "
                            "read at line 14 but not used"));
}

/// Thread 3 of block 1 writes or reads bytes at line 3, before or after the cluster meets; behind that block
/// 0 pushes there at line 4.
Kernel pushing_over(bool reads, bool before_meeting, bool uses = true) {
  return [=](Machine& machine) {
    begin(machine, 2);
    const bool touches = machine.block_index() == 1 && machine.thread_index() == 3;
    if (machine.thread_index() == 0) {
      machine.initialize_barrier(full_of(machine), 1);
      machine.fence_barrier_initialization();
      machine.arrive_expecting(full_of(machine), kStored);
    }
    if (touches) store(machine, 4, 1);
    meet_cluster(machine);
    machine.line = 3;
    const auto touch = [&] {
      if (touches && reads) load(machine, 4);
      if (touches && !reads) store(machine, 4, 2);
      if (uses) machine.shuffle(0, 0);
    };
    if (before_meeting) touch();
    meet_cluster(machine);
    machine.line = 3;
    if (!before_meeting) touch();
    machine.line = 4;
    if (machine.thread_index() == 0) {
      push(machine, 0, 7, 1 - machine.cluster_rank());
      machine.wait_barrier(full_of(machine), 0);
      EXPECT_EQ(load(machine, 4), 7U);
    }
  };
}

TEST(EmulatedCluster, PushOverBytesThatTheOtherBlockTouchesIsReportedUnlessItKnows) {
  for (const bool reads : {true, false}) {
    EXPECT_EQ(fault_of(kPair, pushing_over(reads, true)), "");
    EXPECT_THAT(
        fault_of(kPair, pushing_over(reads, false)),
        HasSubstr(std::string("block 0, thread 0, line 4: writes shared byte 4 that thread 3 of block 1 ") +
                  (reads ? "read" : "wrote") + " at line 3, with no barrier between"));
  }
}

TEST(EmulatedCluster, PushOverBytesThatTheOtherBlockHasReadButNotUsedIsReported) {
  EXPECT_THAT(fault_of(kPair, pushing_over(true, true, false)),
              HasSubstr("block 0, thread 0, line 4: copies over shared byte 4, which thread 3 of block 1 has "
                        "read at line 3 but not used"));
}

/// Lane 0 pushes 16 bytes to the other block so many times.
Kernel pushing(unsigned int expected, int times) {
  return [=](Machine& machine) {
    begin(machine, 2);
    const bool first = machine.thread_index() == 0;
    if (first) {
      machine.initialize_barrier(full_of(machine), 1);
      machine.fence_barrier_initialization();
      machine.arrive_expecting(full_of(machine), expected);
    }
    meet_cluster(machine);
    machine.line = 3;
    for (int i = 0; first && i < times; ++i) push(machine, 16 * i, 7, 1 - machine.cluster_rank());
    machine.wait_barrier(full_of(machine), 0);
    meet_cluster(machine);
    if (first) machine.arrive_expecting(full_of(machine), 0);
  };
}

TEST(EmulatedCluster, MoreBytesThanAPhaseExpectsAreReported) {
  EXPECT_EQ(fault_of(kPair, pushing(32, 2)), "");
  EXPECT_THAT(fault_of(kPair, pushing(8, 1)),
              HasSubstr("phase 0 of an mbarrier gets 8 bytes more than it expects"));
  EXPECT_THAT(fault_of(kPair, pushing(16, 2)),
              HasSubstr("phase 1 of an mbarrier gets 16 bytes more than it expects"));
  EXPECT_THAT(fault_of(kPair, exchanging({.expected = kPushed - kStored})),
              ContainsRegex("line 14: touches shared byte [0-9]+ while the store"));
}

TEST(EmulatedCluster, FewerBytesThanAPhaseExpectsAreADeadlock) {
  EXPECT_THAT(
      fault_of(kPair, exchanging({.expected = kPushed + kStored})),
      AllOf(HasSubstr("deadlock"),
            HasSubstr("block 1: 32 threads from 0 on at line 13, waiting for the bytes of an mbarrier")));
}

TEST(EmulatedCluster, RemoteArrivalThatIsMissingIsADeadlock) {
  EXPECT_THAT(
      fault_of(kPair, exchanging({.arriving = 31})),
      AllOf(HasSubstr("deadlock"),
            HasSubstr("block 0: 32 threads from 0 on at line 10, waiting for the bytes of an mbarrier"),
            HasSubstr("block 1: 32 threads from 0 on at line 10, waiting for the bytes of an mbarrier")));
}

TEST(EmulatedCluster, RemoteArrivalTooManyIsReported) {
  const auto fault = [](int arriving) {
    return fault_of(kPair, [arriving](Machine& machine) {
      begin(machine, 2);
      const int lane = machine.thread_index();
      if (lane == 0) {
        machine.initialize_barrier(full_of(machine), 3);
        machine.fence_barrier_initialization();
        machine.arrive_expecting(full_of(machine), kStored);
      }
      meet_cluster(machine);
      machine.line = 3;
      if (lane < arriving) machine.arrive_remote(full_of(machine), 1 - machine.cluster_rank());
      if (lane == 0) push(machine, 0, 7, 1 - machine.cluster_rank());
      machine.wait_barrier(full_of(machine), 0);
    });
  };
  EXPECT_EQ(fault(2), "");
  EXPECT_THAT(fault(3), HasSubstr("line 3: arrives at an mbarrier more often than a phase expects"));
}

TEST(EmulatedCluster, OtherBlockReachedBeforeItIsKnownToRunIsReported) {
  EXPECT_THAT(fault_of(kPair, exchanging({.meets_first = false})),
              HasSubstr("line 12: reaches into block 1 before a wait_for_cluster(): it may not have begun"));
  EXPECT_THAT(fault_of(kPair,
                       [](Machine& machine) {
                         begin(machine, 4);
                         machine.arrive_at_cluster();
                         machine.arrive_remote(free_of(machine), 1);
                       }),
              HasSubstr("line 4: reaches into block 1 before a wait_for_cluster()"));
}

TEST(EmulatedCluster, BlockThatTheClusterDoesNotHaveIsReported) {
  EXPECT_THAT(fault_of(kPair, exchanging({.pushing_to = 2})),
              HasSubstr("reaches into block 2 of its cluster, which has 2"));
  EXPECT_THAT(fault_of(kWarp,
                       [](Machine& machine) {
                         begin(machine, 4);
                         meet_cluster(machine);
                         EXPECT_EQ(machine.cluster_rank(), 0);
                         machine.arrive_remote(free_of(machine), 1);
                       }),
              HasSubstr("reaches into block 1 of its cluster, which has 1"));
}

TEST(EmulatedCluster, MbarrierOfTheOtherBlockMustBeInitialisedBeforeAndFenced) {
  EXPECT_THAT(fault_of(kPair, exchanging({.initialises = false, .ranks_that_expect = 0})),
              ContainsRegex("line 12: uses an mbarrier that nobody of block [01] has initialised"));
  EXPECT_THAT(
      fault_of(kPair, exchanging({.meets_initialised = false})),
      ContainsRegex("line 12: uses an mbarrier that thread 0 of block [01] initialised at line 2, with no "
                    "barrier between"));
  EXPECT_THAT(fault_of(kPair, exchanging({.fences = false})),
              HasSubstr("line 12: gives an mbarrier to a bulk copy before the fence of its initialisation"));
}

TEST(EmulatedCluster, MisalignedPushOrOneBeyondTheMemoryIsReported) {
  EXPECT_THAT(fault_of(kPair, exchanging({.byte = 8})),
              ContainsRegex("line 12: touches 16 bytes at shared byte [0-9]+, which is no multiple of 16"));
  EXPECT_THAT(fault_of(kPair, exchanging({.byte = 4096})),
              ContainsRegex("line 12: touches 16 bytes at shared byte [0-9]+; the block has 4096"));
  EXPECT_THAT(fault_of(kPair, exchanging({.byte = 2048 - 30 * 16})), HasSubstr("which hold an mbarrier"));
}

TEST(EmulatedCluster, RegisterThatNothingWasWrittenToIsNotPushed) {
  EXPECT_THAT(fault_of(kPair,
                       [](Machine& machine) {
                         begin(machine, 2);
                         if (machine.thread_index() == 0) {
                           machine.initialize_barrier(full_of(machine), 1);
                           machine.fence_barrier_initialization();
                         }
                         meet_cluster(machine);
                         push(machine, 0, machine.float_poison, 1 - machine.cluster_rank());
                       }),
              HasSubstr("uses a register that nothing was written to"));
}

// Ends.

TEST(EmulatedCluster, BlockThatDoesNotStayForWhatOthersDoToItIsReportedInEveryOrder) {
  for (const BlockOrder order : kOrders) {
    EXPECT_THAT(fault_of(kPair, exchanging({.meets_last = false}), {}, order),
                AnyOf(HasSubstr("and nothing has told it that the remote arrival that thread"),
                      ContainsRegex("line 15: reaches into block [01], which has ended")));
  }
}

/// Block 0 does something to block 1 at line 3, which stays for `turns` more turns without waiting for it.
Kernel ending(bool stores, int turns, bool meets_last = false) {
  return [=](Machine& machine) {
    begin(machine, 2);
    if (machine.thread_index() == 0) {
      machine.initialize_barrier(full_of(machine), 1);
      machine.fence_barrier_initialization();
    }
    meet_cluster(machine);
    const bool acts = machine.block_index() == 0;
    machine.line = 4;
    for (int i = 0; i < (acts ? 3 : turns); ++i) machine.ballot(true);
    machine.line = 3;
    if (acts && machine.thread_index() == 0) {
      if (stores) {
        push(machine, 0, 7, 1);
      } else {
        machine.arrive_remote(full_of(machine), 1);
      }
    }
    if (meets_last) meet_cluster(machine);
  };
}

TEST(EmulatedCluster, BlockThatEndsWhileAStoreToItIsUnderWayIsReported) {
  EXPECT_THAT(fault_of(kPair, ending(true, 6)),
              HasSubstr("block 1 ends while the store that block 0 issued at line 3 is under way to it"));
  EXPECT_THAT(fault_of(kPair, ending(true, 6, true)),
              HasSubstr("block 1 ends while the store that block 0 issued at line 3 is under way to it"));
}

TEST(EmulatedCluster, BlockThatHasEndedIsNotReached) {
  EXPECT_THAT(fault_of(kPair, ending(true, 0)),
              HasSubstr("block 0, thread 0, line 3: reaches into block 1, which has ended"));
  EXPECT_THAT(fault_of(kPair, ending(false, 0)),
              HasSubstr("block 0, thread 0, line 3: reaches into block 1, which has ended"));
}

TEST(EmulatedCluster, BlockThatEndsWithoutKnowingOfAnArrivalIsReported) {
  EXPECT_EQ(fault_of(kPair, ending(false, 6, true)), "");
  EXPECT_THAT(
      fault_of(kPair, ending(false, 6)),
      HasSubstr("block 1 ends, and nothing has told it that the remote arrival that thread 0 of block "
                "0 made at line 3 is done"));
}

TEST(EmulatedCluster, BlockThatEndsWithoutKnowingOfAStoreIsReported) {
  // The bytes for block 1 come first, while all wait, but none of its threads does for them.
  EXPECT_THAT(fault_of(
                  kPair,
                  [](Machine& machine) {
                    begin(machine, 2);
                    if (machine.thread_index() == 0) {
                      machine.initialize_barrier(full_of(machine), 1);
                      machine.initialize_barrier(free_of(machine), 1);
                      machine.fence_barrier_initialization();
                      machine.arrive_expecting(full_of(machine), kStored);
                    }
                    meet_cluster(machine);
                    machine.line = 3;
                    if (machine.thread_index() == 0 && machine.block_index() == 0) {
                      push(machine, 0, 7, 1);
                      push(machine, 0, 8, 0);
                      machine.wait_barrier(full_of(machine), 0);
                    }
                    meet_cluster(machine);
                  },
                  {}, BlockOrder::descending),
              HasSubstr("block 1 ends, and nothing has told it that the store that block 0 issued at line 3 "
                        "is done"));
}

}  // namespace
}  // namespace lutsmith::emulator_test
