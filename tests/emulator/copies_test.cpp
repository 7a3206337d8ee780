// Copies to shared memory that go on while threads do: cp.async, and bulk copies with their mbarriers.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <string>

#include "lambda_kernels.h"

namespace lutsmith::emulator_test {
namespace {

using testing::AllOf;
using testing::HasSubstr;

/// Lane 0 copies 16 bytes with cp.async, waits as told, and lane `reader` reads them.
std::string async_copy_fault(bool waits, bool barrier, int reader) {
  Memory memory;
  memory.weights[0] = std::byte{77};
  return fault_of(
      kWarp,
      [&](Machine& machine) {
        begin(machine, 1);
        if (machine.thread_index() == 0) {
          machine.copy_async(machine.dynamic_shared(), memory.weights, 16);
          machine.commit_copies();
          if (waits) machine.wait_copies(0);
        }
        if (barrier) machine.warp_barrier();
        if (machine.thread_index() == reader) {
          EXPECT_EQ(load(machine, 0), 77U);
        }
        machine.line = 2;
        if (!waits && machine.thread_index() == 0) machine.wait_copies(0);
      },
      memory.regions());
}

TEST(EmulatedMachine, AsyncCopyIsThereOnceItsThreadHasWaitedAndOthersHaveABarrier) {
  EXPECT_EQ(async_copy_fault(true, false, 0), "");
  EXPECT_EQ(async_copy_fault(true, true, 17), "");
  EXPECT_THAT(async_copy_fault(true, false, 17), HasSubstr("with no barrier between"));
  EXPECT_THAT(async_copy_fault(false, true, 0), HasSubstr("while the copy issued at line 1 is under way"));
}

TEST(EmulatedMachine, ThreadThatEndsWithCopiesUnderWayIsReported) {
  Memory memory;
  EXPECT_THAT(fault_of(
                  kWarp,
                  [&](Machine& machine) {
                    begin(machine, 1);
                    if (machine.thread_index() == 0) {
                      machine.copy_async(machine.dynamic_shared(), memory.weights, 16);
                    }
                  },
                  memory.regions()),
              HasSubstr("ends while copies it issued are under way"));
}

constexpr int kBarrierByte = 1024;
constexpr const char* kWaitedBefore =
    "waits for a phase of an mbarrier that was complete at its last wait, or before the first";

unsigned long long* mbarrier_of(Machine& machine) {
  return reinterpret_cast<unsigned long long*>(machine.dynamic_shared() + kBarrierByte);
}

/// Lane 0 initialises the mbarrier; the others must not use it before a barrier.
void initialize_mbarrier(Machine& machine) {
  if (machine.thread_index() != 0) return;
  machine.initialize_barrier(mbarrier_of(machine), 1);
  machine.fence_barrier_initialization();
}

/// Lane 0 starts a copy of 16 bytes, which complete the mbarrier's phase.
void start_bulk_copy(Machine& machine, const Memory& memory) {
  if (machine.thread_index() != 0) return;
  machine.arrive_expecting(mbarrier_of(machine), 16);
  machine.copy_bulk(machine.dynamic_shared(), memory.weights, 16, mbarrier_of(machine));
}

struct BulkCopyUse {
  bool fence = true;
  bool barrier = true;         ///< between initialisation and others' use
  unsigned int expected = 32;  ///< bytes
  unsigned int copied = 32;
  int to = 0;     ///< byte in shared memory
  int waits = 1;  ///< of every lane for phase 0
  unsigned int parity = 0;
};

std::string bulk_copy_fault(const BulkCopyUse& use) {
  Memory memory;
  memory.weights[16] = std::byte{5};
  return fault_of(
      kWarp,
      [&](Machine& machine) {
        begin(machine, 1);
        auto* const barrier = mbarrier_of(machine);
        if (machine.thread_index() == 0) {
          machine.initialize_barrier(barrier, 1);
          if (use.fence) machine.fence_barrier_initialization();
        }
        if (use.barrier) machine.warp_barrier();
        if (machine.thread_index() == 0) {
          machine.arrive_expecting(barrier, use.expected);
          machine.copy_bulk(machine.dynamic_shared() + use.to, memory.weights, use.copied, barrier);
        }
        machine.line = 2;
        if (use.barrier) machine.warp_barrier();  // the copy has been issued
        for (int i = 0; i < use.waits; ++i) machine.wait_barrier(barrier, use.parity);
        EXPECT_EQ(load(machine, use.to + 16), 5U);
      },
      memory.regions());
}

TEST(EmulatedMachine, BulkCopyIsSeenByEveryThreadThatWaitedForItsPhase) {
  EXPECT_EQ(bulk_copy_fault({}), "");
}
TEST(EmulatedMachine, BulkCopyReadWithoutWaitingIsReported) {
  EXPECT_THAT(bulk_copy_fault({.waits = 0}), HasSubstr("while the copy issued at line 1 is under way"));
}
TEST(EmulatedMachine, WrongParityIsReported) {
  EXPECT_THAT(bulk_copy_fault({.parity = 1}), HasSubstr(kWaitedBefore));
}
TEST(EmulatedMachine, PhaseWaitedForTwiceIsReported) {
  EXPECT_THAT(bulk_copy_fault({.waits = 2}), HasSubstr(kWaitedBefore));
}
TEST(EmulatedMachine, PhaseThatGetsTooFewBytesIsADeadlock) {
  EXPECT_THAT(bulk_copy_fault({.expected = 64}),
              AllOf(HasSubstr("deadlock"), HasSubstr("the bytes of an mbarrier")));
}
TEST(EmulatedMachine, PhaseThatGetsTooManyBytesIsReported) {
  EXPECT_THAT(bulk_copy_fault({.expected = 16}), HasSubstr("16 bytes more than it expects"));
}
TEST(EmulatedMachine, MisalignedBulkCopyIsReported) {
  EXPECT_THAT(bulk_copy_fault({.to = 8}), HasSubstr("no multiple of 16"));
  EXPECT_THAT(bulk_copy_fault({.expected = 24, .copied = 24}), HasSubstr("no multiple of 16"));
}
TEST(EmulatedMachine, BulkCopyWithoutTheFenceIsReported) {
  EXPECT_THAT(bulk_copy_fault({.fence = false}), HasSubstr("before the fence of its initialisation"));
}
TEST(EmulatedMachine, MbarrierOthersCannotKnowOfIsReported) {
  EXPECT_THAT(bulk_copy_fault({.barrier = false}),
              HasSubstr("initialised at line 1, with no barrier between"));
}

/// Every thread of `arriving` arrives at an mbarrier of `arrivals`, thread 0 with 16 bytes that it copies;
/// all wait for the phase and read what came.
std::string fault_of_arrivals(int arrivals, int arriving, int phases = 1) {
  Memory memory;
  memory.weights[0] = std::byte{5};
  return fault_of(
      kWarp,
      [&](Machine& machine) {
        begin(machine, 1);
        auto* const barrier = mbarrier_of(machine);
        if (machine.thread_index() == 0) {
          machine.initialize_barrier(barrier, arrivals);
          machine.fence_barrier_initialization();
        }
        machine.warp_barrier();
        for (int phase = 0; phase < phases; ++phase) {
          machine.line = 2;
          if (machine.thread_index() == 0) {
            machine.arrive_expecting(barrier, 16);
            machine.copy_bulk(machine.dynamic_shared() + 16 * phase, memory.weights, 16, barrier);
          } else if (machine.thread_index() < arriving) {
            machine.arrive_expecting(barrier, 0);
          }
          machine.line = 3;
          machine.wait_barrier(barrier, static_cast<unsigned int>(phase % 2));
          EXPECT_EQ(load(machine, 16 * phase), 5U);
        }
      },
      memory.regions());
}

TEST(EmulatedMachine, PhaseIsCompleteAfterAsManyArrivalsAsItWasInitialisedWith) {
  EXPECT_EQ(fault_of_arrivals(1, 1), "");
  EXPECT_EQ(fault_of_arrivals(4, 4), "");
  EXPECT_EQ(fault_of_arrivals(32, 32), "");
}
TEST(EmulatedMachine, EveryPhaseCountsItsArrivalsFromTheStart) { EXPECT_EQ(fault_of_arrivals(3, 3, 5), ""); }
TEST(EmulatedMachine, PhaseThatLacksAnArrivalIsADeadlock) {
  EXPECT_THAT(fault_of_arrivals(4, 3), AllOf(HasSubstr("deadlock"), HasSubstr("the bytes of an mbarrier")));
}
TEST(EmulatedMachine, ArrivalTooManyIsReported) {
  EXPECT_THAT(fault_of_arrivals(2, 3), HasSubstr("arrives at an mbarrier more often than a phase expects"));
}
TEST(EmulatedMachine, MbarrierOfNoArrivalIsReported) {
  EXPECT_THAT(fault_of_arrivals(0, 1), HasSubstr("with 0 arrivals; 1 or more are allowed"));
}

TEST(EmulatedMachine, MbarrierInitialisedTwiceIsReported) {
  EXPECT_THAT(fault_of(kWarp,
                       [](Machine& machine) {
                         begin(machine, 1);
                         machine.initialize_barrier(mbarrier_of(machine), 1);
                         machine.initialize_barrier(mbarrier_of(machine), 1);
                       }),
              HasSubstr("initialises an mbarrier a second time"));
}

TEST(EmulatedMachine, MbarrierNobodyInitialisedIsReported) {
  EXPECT_THAT(fault_of(kWarp,
                       [](Machine& machine) {
                         begin(machine, 1);
                         machine.arrive_expecting(mbarrier_of(machine), 16);
                       }),
              HasSubstr("uses an mbarrier that nobody has initialised"));
}

TEST(EmulatedMachine, StoreOverAnMbarrierIsReported) {
  const auto at = [](int byte) {
    return fault_of(kWarp, [byte](Machine& machine) {
      begin(machine, 1);
      if (machine.thread_index() != 0) return;
      machine.initialize_barrier(mbarrier_of(machine), 1);
      store(machine, kBarrierByte + byte, 1);
    });
  };
  EXPECT_THAT(at(0), HasSubstr("which hold an mbarrier"));
  EXPECT_THAT(at(4), HasSubstr("which hold an mbarrier"));
  EXPECT_EQ(at(-4), "");
  EXPECT_EQ(at(8), "");
}

TEST(EmulatedMachine, BlockThatEndsWithABulkCopyUnderWayIsReported) {
  Memory memory;
  EXPECT_THAT(fault_of(
                  kWarp,
                  [&](Machine& machine) {
                    begin(machine, 1);
                    initialize_mbarrier(machine);
                    machine.line = 12;
                    start_bulk_copy(machine, memory);
                  },
                  memory.regions()),
              HasSubstr("block 0 ends while the bulk copy issued at line 12 is under way"));
}

// Lane 0 waits for the bytes, and all meet behind its wait: at a vote, which orders nothing, or at a barrier.
TEST(EmulatedMachine, BulkCopyReadByAThreadThatNobodyToldOfItsArrivalIsReported) {
  Memory memory;
  memory.weights[0] = std::byte{5};
  const auto run = [&](bool barrier_behind) {
    return fault_of(
        kWarp,
        [&](Machine& machine) {
          begin(machine, 1);
          initialize_mbarrier(machine);
          start_bulk_copy(machine, memory);
          machine.warp_barrier();
          machine.line = 2;
          if (machine.thread_index() == 0) machine.wait_barrier(mbarrier_of(machine), 0);
          machine.line = 3;
          if (barrier_behind) {
            machine.warp_barrier();
          } else {
            machine.ballot(true);
          }
          EXPECT_EQ(load(machine, 0), 5U);
        },
        memory.regions());
  };
  EXPECT_EQ(run(true), "");
  EXPECT_THAT(run(false),
              HasSubstr("that the bulk copy issued at line 1 brought, without waiting for its mbarrier"));
}

TEST(EmulatedMachine, BulkCopyOverAStageThatOthersStillReadOrUseIsReported) {
  Memory memory;
  const auto refill = [&](bool used, bool barrier) {
    return fault_of(
        kWarp,
        [&](Machine& machine) {
          begin(machine, 1);
          initialize_mbarrier(machine);
          machine.warp_barrier();
          start_bulk_copy(machine, memory);
          machine.wait_barrier(mbarrier_of(machine), 0);
          float d[4] = {};
          const unsigned int a[4] = {load(machine, 4)};
          if (used) machine.multiply_accumulate(d, a, 0, 0, false);
          machine.ballot(true);  // all have read, but nothing orders the reads
          machine.line = 5;
          if (barrier) machine.warp_barrier();
          start_bulk_copy(machine, memory);
          machine.wait_barrier(mbarrier_of(machine), 1);
        },
        memory.regions());
  };
  EXPECT_EQ(refill(true, true), "");
  EXPECT_THAT(refill(false, true), AllOf(HasSubstr("line 5"), HasSubstr("has read at line 1 but not used")));
  EXPECT_THAT(refill(true, false),
              AllOf(HasSubstr("line 5"), HasSubstr("read at line 1, with no barrier between")));
}

TEST(EmulatedMachine, BulkCopyIssuedByOneWhoKnowsOfNoUseIsReported) {
  // The other warp has used what it read before the copy, but only after it has said that it has read it.
  Memory memory;
  const auto refill = [&](bool used_before) {
    return fault_of(
        kTwoWarps,
        [&](Machine& machine) {
          begin(machine, 1);
          if (machine.thread_index() == 0) {
            initialize_mbarrier(machine);
            store(machine, 4, 1);
          }
          machine.block_barrier();
          const bool reads = machine.thread_index() >= 32;
          if (reads) load(machine, 4);
          if (reads && used_before) machine.shuffle(0, 0);
          machine.line = 2;
          machine.block_barrier();
          machine.line = 3;
          if (reads) {
            machine.shuffle(0, 0);
          } else {
            for (int i = 0; i < 3; ++i) machine.ballot(true);  // until the others have used it
            start_bulk_copy(machine, memory);
            machine.wait_barrier(mbarrier_of(machine), 0);
          }
        },
        memory.regions());
  };
  EXPECT_EQ(refill(true), "");
  EXPECT_THAT(refill(false), HasSubstr("has read at line 1 but not used"));
}

}  // namespace
}  // namespace lutsmith::emulator_test
