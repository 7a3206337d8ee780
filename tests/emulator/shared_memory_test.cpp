// What threads of a block may read and write in shared memory, and when.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "lambda_kernels.h"

namespace lutsmith::emulator_test {
namespace {

using testing::HasSubstr;

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

}  // namespace
}  // namespace lutsmith::emulator_test
