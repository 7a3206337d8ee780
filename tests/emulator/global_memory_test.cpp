// What blocks may read and write in global memory, and when: before one another and before an earlier launch.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>

#include "lambda_kernels.h"

namespace lutsmith::emulator_test {
namespace {

using testing::HasSubstr;

TEST(EmulatedMachine, ReadBeyondARegionIsReported) {
  Memory memory;
  const auto at = [&](std::intptr_t byte) {
    return fault_of(
        kWarp,
        [&](Machine& machine) {
          begin(machine, 1);
          std::uint64_t words[2];
          // As a number: of an array there are no pointers to what lies outside of it.
          const std::uintptr_t address =
              reinterpret_cast<std::uintptr_t>(memory.weights) + static_cast<std::uintptr_t>(byte);
          machine.load_global(Region::weights, words, reinterpret_cast<const void*>(address), 16);
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

}  // namespace
}  // namespace lutsmith::emulator_test
