// What the machine does for a kernel, and which mistakes it finds. The kernels here are lambdas that use the
// machine directly.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "emulator/grid.h"

namespace lutsmith::emulator_test {
namespace {

using emulator::BlockOrder;
using emulator::GridShape;
using emulator::Machine;
using emulator::Region;
using emulator::Regions;
using emulator::run_grid;
using testing::AllOf;
using testing::HasSubstr;

using Kernel = std::function<void(Machine&)>;

/// The fault of a grid; empty where it ran to its end.
std::string fault_of(const GridShape& shape, const Kernel& kernel, const Regions& regions = {},
                     BlockOrder order = BlockOrder::ascending) {
  const auto ran = run_grid(shape, regions, order, kernel);
  if (ran) return {};
  EXPECT_EQ(ran.error().code, ErrorCode::kernel_fault);
  return ran.error().message + "\n" + ran.error().context;
}

void store(Machine& machine, int byte, std::uint32_t value) {
  machine.store_shared(machine.dynamic_shared() + byte, &value, sizeof(value));
}

std::uint32_t load(Machine& machine, int byte) {
  std::uint32_t value = 0;
  machine.load_shared(&value, machine.dynamic_shared() + byte, sizeof(value));
  return value;
}

/// Every kernel comes through here first: what counts as never written, and the line it is at.
void begin(Machine& machine, int line) {
  machine.integer_poison = 0xdeadbeef;
  machine.float_poison = 0xdeadbeef;
  machine.has_integer_poison = true;
  machine.has_float_poison = true;
  machine.line = line;
}

constexpr GridShape kWarp{.threads = 32, .shared_bytes = 4096};
constexpr GridShape kTwoWarps{.threads = 64, .shared_bytes = 4096};

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
  int before = 0;
  int most = 0;
  EXPECT_EQ(fault_of(
                {.blocks = 3, .threads = 32},
                [&](Machine& machine) {
                  if (machine.thread_index() == 0) ++before;
                  machine.block_barrier();
                  most = std::max(most, before);
                },
                {}, BlockOrder::interleaved),
            "");
  EXPECT_EQ(most, 3);
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

// Shared memory.

TEST(EmulatedMachine, ReadOfSharedMemoryNobodyWroteIsReported) {
  EXPECT_THAT(fault_of(kWarp,
                       [](Machine& machine) {
                         begin(machine, 7);
                         load(machine, 256);
                       }),
              HasSubstr("block 0, thread 0, line 7: reads shared byte 256, which nobody has written"));
}

TEST(EmulatedMachine, AccessBeyondSharedMemoryOrMisalignedIsReported) {
  const auto at = [](int byte) {
    return fault_of(kWarp, [byte](Machine& machine) {
      begin(machine, 1);
      store(machine, byte, 1);
    });
  };
  EXPECT_THAT(at(4096), HasSubstr("the block has 4096"));
  EXPECT_THAT(at(-4), HasSubstr("the block has 4096"));
  EXPECT_THAT(at(2), HasSubstr("no multiple of 4"));
}

struct Race {
  const char* name;
  bool first_writes;
  bool second_writes;
  bool race;
};

class EmulatedRace : public testing::TestWithParam<Race> {};

TEST_P(EmulatedRace, IsReportedUnlessABarrierStandsBetween) {
  const Race race = GetParam();
  for (const int barrier : {0, 1, 2}) {  // none, the warp's, the block's
    const auto touch = [](Machine& machine, bool writes) {
      if (writes) {
        store(machine, 64, 1);
      } else {
        load(machine, 64);
      }
    };
    const std::string fault = fault_of(kTwoWarps, [&](Machine& machine) {
      begin(machine, 1);
      const int thread = machine.thread_index();
      if (thread == 0) store(machine, 64, 0);
      machine.block_barrier();
      begin(machine, 2);
      if (thread == 3) touch(machine, race.first_writes);
      if (barrier == 1) machine.warp_barrier();
      if (barrier == 2) machine.block_barrier();
      if (thread == 60) touch(machine, race.second_writes);  // of another warp
    });
    if (race.race && barrier != 2) {
      EXPECT_THAT(fault, HasSubstr("with no barrier between")) << "barrier " << barrier;
    } else {
      EXPECT_EQ(fault, "") << "barrier " << barrier;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Accesses, EmulatedRace,
                         testing::Values(Race{"write_read", true, false, true},
                                         Race{"read_write", false, true, true},
                                         Race{"write_write", true, true, true},
                                         Race{"read_read", false, false, false}),
                         [](const auto& race) { return std::string(race.param.name); });

TEST(EmulatedMachine, WarpBarrierOrdersTheLanesOfItsWarp) {
  EXPECT_EQ(fault_of(kWarp,
                     [](Machine& machine) {
                       begin(machine, 1);
                       if (machine.thread_index() == 31) store(machine, 0, 9);
                       machine.warp_barrier();
                       EXPECT_EQ(load(machine, 0), 9U);
                     }),
            "");
}

TEST(EmulatedMachine, VoteOrdersNoMemory) {
  EXPECT_THAT(fault_of(kWarp,
                       [](Machine& machine) {
                         begin(machine, 1);
                         if (machine.thread_index() == 0) store(machine, 0, 9);
                         machine.ballot(true);
                         if (machine.thread_index() == 1) load(machine, 0);
                       }),
              HasSubstr("with no barrier between"));
}

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

// Global memory and other blocks.

struct Memory {
  alignas(16) std::byte weights[64] = {};
  alignas(16) std::uint16_t activations[32] = {};
  std::uint16_t output[8] = {};
  float partial_sums[4] = {};
  std::uint32_t arrivals[2] = {};

  Regions regions() {
    return {.weights = weights,
            .activations = std::as_bytes(std::span(activations)),
            .output = std::as_writable_bytes(std::span(output)),
            .partial_sums = std::as_writable_bytes(std::span(partial_sums)),
            .arrivals = std::as_writable_bytes(std::span(arrivals))};
  }
};

TEST(EmulatedMachine, ReadBeyondARegionIsReported) {
  Memory memory;
  const auto at = [&](int byte) {
    return fault_of(
        kWarp,
        [&](Machine& machine) {
          begin(machine, 1);
          std::uint64_t words[2];
          machine.load_global(Region::weights, words, memory.weights + byte, 16);
        },
        memory.regions());
  };
  EXPECT_EQ(at(48), "");
  EXPECT_THAT(at(64), HasSubstr("byte 64 of the weights, whose size is 64"));
  EXPECT_THAT(at(-16), HasSubstr("byte -16 of the weights"));
  EXPECT_THAT(at(8), HasSubstr("no multiple of 16"));
}

TEST(EmulatedMachine, OutputWrittenTwiceIsReported) {
  Memory memory;
  EXPECT_THAT(fault_of(
                  kWarp,
                  [&](Machine& machine) {
                    begin(machine, 1);
                    const std::uint16_t one = 1;
                    const int element = machine.thread_index() % 7;
                    if (machine.thread_index() < 8) {
                      machine.store_global(Region::output, memory.output + element, &one, 2);
                    }
                  },
                  memory.regions()),
              HasSubstr("writes element 0 of the output a second time"));
}

TEST(EmulatedMachine, OutputFromARegisterThatNothingWasWrittenToIsReported) {
  Memory memory;
  EXPECT_THAT(fault_of(
                  kWarp,
                  [&](Machine& machine) {
                    begin(machine, 1);
                    const auto poison = static_cast<std::uint16_t>(machine.integer_poison & 0xffff);
                    machine.store_global(Region::output, memory.output, &poison, 2);
                  },
                  memory.regions()),
              HasSubstr("a register that nothing was written to"));
}

/// Every block leaves a partial sum; the last to arrive reads those of all.
Kernel fix_up(Memory& memory, bool barrier_before, bool reset) {
  return [&memory, barrier_before, reset](Machine& machine) {
    begin(machine, 1);
    const int block = machine.block_index();
    const float sum = static_cast<float>(block + 1);
    if (machine.thread_index() == 31) {
      machine.store_global(Region::partial_sums, memory.partial_sums + block, &sum, 4);
    }
    machine.line = 2;
    if (barrier_before) machine.block_barrier();
    if (machine.thread_index() == 0) {
      const bool last = machine.count_arrival(memory.arrivals) == 2;
      store(machine, 0, last ? 1 : 0);
      const std::uint32_t zero = 0;
      if (last && reset) machine.store_global(Region::arrivals, memory.arrivals, &zero, 4);
    }
    machine.line = 3;
    machine.block_barrier();
    if (load(machine, 0) == 0) return;
    float read = 0;
    for (int i = 0; i < 3; ++i) {
      machine.load_global(Region::partial_sums, &read, memory.partial_sums + i, 4);
      EXPECT_EQ(read, static_cast<float>(i + 1));
    }
  };
}

TEST(EmulatedMachine, PartialSumsAreSeenThroughBarrierArrivalBarrier) {
  constexpr GridShape kThreeBlocks{.blocks = 3, .threads = 64, .shared_bytes = 64};
  for (const BlockOrder order : {BlockOrder::ascending, BlockOrder::descending, BlockOrder::interleaved}) {
    Memory memory;
    EXPECT_EQ(fault_of(kThreeBlocks, fix_up(memory, true, true), memory.regions(), order), "");
    EXPECT_THAT(fault_of(kThreeBlocks, fix_up(memory, false, true), memory.regions(), order),
                HasSubstr("with nothing that orders the two"));
  }
}

TEST(EmulatedMachine, CounterThatIsNotSetBackIsReported) {
  Memory memory;
  EXPECT_THAT(fault_of({.blocks = 3, .threads = 64, .shared_bytes = 64}, fix_up(memory, true, false),
                       memory.regions()),
              HasSubstr("leaves arrival counter 0 at 3"));
}

TEST(EmulatedMachine, PartialSumThatTwoBlocksWriteIsReported) {
  for (const BlockOrder order : {BlockOrder::ascending, BlockOrder::interleaved}) {
    Memory memory;
    EXPECT_THAT(fault_of(
                    {.blocks = 2, .threads = 32},
                    [&](Machine& machine) {
                      begin(machine, 6);
                      const float sum = 1;
                      if (machine.thread_index() != 2) return;
                      machine.store_global(Region::partial_sums, memory.partial_sums + 3, &sum, 4);
                    },
                    memory.regions(), order),
                HasSubstr("writes partial sum 3 that thread 2 of block 0 wrote at line 6, with nothing that "
                          "orders the two"));
  }
}

TEST(EmulatedMachine, PartialSumNobodyWroteIsReported) {
  Memory memory;
  EXPECT_THAT(fault_of(
                  kWarp,
                  [&](Machine& machine) {
                    begin(machine, 1);
                    float sum = 0;
                    machine.load_global(Region::partial_sums, &sum, memory.partial_sums, 4);
                  },
                  memory.regions()),
              HasSubstr("reads partial sum 0, which nobody has written"));
}

TEST(EmulatedMachine, DependentLaunchTouchesOnlyWeightsBeforeItWaits) {
  const auto run = [](Region region, bool dependent, bool waits) {
    Memory memory;
    return fault_of(
        {.threads = 32, .dependent_launch = dependent},
        [&](Machine& machine) {
          begin(machine, 1);
          std::uint64_t words[2];
          machine.release_dependents();
          if (waits) machine.wait_for_dependency();
          machine.load_global(region, words,
                              region == Region::weights ? static_cast<void*>(memory.weights)
                                                        : static_cast<void*>(memory.activations),
                              16);
        },
        memory.regions());
  };
  EXPECT_EQ(run(Region::weights, true, false), "");
  EXPECT_EQ(run(Region::activations, true, true), "");
  EXPECT_EQ(run(Region::activations, false, false), "");
  EXPECT_THAT(run(Region::activations, true, false), HasSubstr("before it has waited for the launch before"));
}

TEST(EmulatedMachine, DependentLaunchWritesNothingBeforeItWaits) {
  const auto run = [](bool counts, bool waits) {
    Memory memory;
    return fault_of(
        {.threads = 32, .dependent_launch = true},
        [&](Machine& machine) {
          begin(machine, 1);
          if (machine.thread_index() != 0) return;
          if (waits) machine.wait_for_dependency();
          if (counts) {
            machine.count_arrival(memory.arrivals);
            const std::uint32_t zero = 0;
            machine.store_global(Region::arrivals, memory.arrivals, &zero, 4);
          } else {
            const std::uint16_t one = 1;
            machine.store_global(Region::output, memory.output, &one, 2);
          }
        },
        memory.regions());
  };
  EXPECT_EQ(run(true, true), "");
  EXPECT_EQ(run(false, true), "");
  EXPECT_THAT(run(true, false), HasSubstr("counts its arrival before it has waited for the launch before"));
  EXPECT_THAT(run(false, false),
              HasSubstr("writes what the launch before may use before it has waited for the launch before"));
}

// Copies to shared memory.

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
          machine.initialize_barrier(barrier);
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

TEST(EmulatedMachine, MbarrierInitialisedTwiceIsReported) {
  EXPECT_THAT(fault_of(kWarp,
                       [](Machine& machine) {
                         begin(machine, 1);
                         machine.initialize_barrier(mbarrier_of(machine));
                         machine.initialize_barrier(mbarrier_of(machine));
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
      machine.initialize_barrier(mbarrier_of(machine));
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
                    if (machine.thread_index() != 0) return;
                    auto* const barrier = mbarrier_of(machine);
                    machine.initialize_barrier(barrier);
                    machine.fence_barrier_initialization();
                    machine.arrive_expecting(barrier, 16);
                    machine.line = 12;
                    machine.copy_bulk(machine.dynamic_shared(), memory.weights, 16, barrier);
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
          auto* const barrier = mbarrier_of(machine);
          if (machine.thread_index() == 0) {
            machine.initialize_barrier(barrier);
            machine.fence_barrier_initialization();
            machine.arrive_expecting(barrier, 16);
            machine.copy_bulk(machine.dynamic_shared(), memory.weights, 16, barrier);
          }
          machine.warp_barrier();
          machine.line = 2;
          if (machine.thread_index() == 0) machine.wait_barrier(barrier, 0);
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
          auto* const mbarrier = mbarrier_of(machine);
          const auto fill = [&] {
            if (machine.thread_index() != 0) return;
            machine.arrive_expecting(mbarrier, 16);
            machine.copy_bulk(machine.dynamic_shared(), memory.weights, 16, mbarrier);
          };
          if (machine.thread_index() == 0) {
            machine.initialize_barrier(mbarrier);
            machine.fence_barrier_initialization();
          }
          machine.warp_barrier();
          fill();
          machine.wait_barrier(mbarrier, 0);
          float d[4] = {};
          const unsigned int a[4] = {load(machine, 4)};
          if (used) machine.multiply_accumulate(d, a, 0, 0, false);
          machine.ballot(true);  // all have read, but nothing orders the reads
          machine.line = 5;
          if (barrier) machine.warp_barrier();
          fill();
          machine.wait_barrier(mbarrier, 1);
        },
        memory.regions());
  };
  EXPECT_EQ(refill(true, true), "");
  EXPECT_THAT(refill(false, true), AllOf(HasSubstr("line 5"), HasSubstr("has read at line 1 but not used")));
  EXPECT_THAT(refill(true, false),
              AllOf(HasSubstr("line 5"), HasSubstr("read at line 1, with no barrier between")));
}

}  // namespace
}  // namespace lutsmith::emulator_test
