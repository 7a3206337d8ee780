// Registers that warpgroups give up and claim.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "primitive_kernels.h"

namespace lutsmith::emulator_test {
namespace {

using namespace device;
using testing::AllOf;
using testing::ContainsRegex;
using testing::HasSubstr;

// One warpgroup that copies and two that multiply: 168 registers a thread at the launch.
constexpr GridShape kThree{.threads = 384, .shared_bytes = 64};

template <int kKept, int kClaimed>
std::string fault_of_claim() {
  return fault_of(kThree, with_primitives([] {
                    if (thread_index() < 128) {
                      give_up_registers<kKept>();
                    } else {
                      claim_registers<kClaimed>();
                    }
                  }));
}

TEST(Registers, AsManyAsOthersGiveUpCanBeClaimed) { EXPECT_EQ((fault_of_claim<40, 232>()), ""); }

TEST(Registers, ClaimThatIsNeverMetIsADeadlock) {
  EXPECT_THAT((fault_of_claim<48, 232>()),
              AllOf(HasSubstr("deadlock"), HasSubstr("waiting for registers that others give up")));
}

TEST(Registers, OfFiveWarpgroupsAreCountedToo) {
  const auto kernel = [](bool all) {
    return with_primitives([all] {
      if (thread_index() < 128) {
        if (all) give_up_registers<32>();
      } else {
        claim_registers<112>();
      }
    });
  };
  const GridShape shape{.threads = 640};
  EXPECT_EQ(fault_of(shape, kernel(true)), "");
  EXPECT_THAT(fault_of(shape, kernel(false)), HasSubstr("deadlock"));
}

TEST(Registers, NumberThatNoThreadCanHaveIsReported) {
  const auto fault = [](auto change) { return fault_of(kThree, with_primitives(change)); };
  constexpr const char* kAllowed = "allowed: multiples of 8 from 24 to 256";
  EXPECT_THAT(fault([] { give_up_registers<36>(); }),
              ContainsRegex("^block 0, thread 0, line [1-9][0-9]*: gives up all but 36 registers; " +
                            std::string(kAllowed)));
  EXPECT_THAT(fault([] { give_up_registers<16>(); }), HasSubstr(kAllowed));
  EXPECT_THAT(fault([] { claim_registers<264>(); }), HasSubstr(kAllowed));
  EXPECT_THAT(fault([] { give_up_registers<176>(); }),
              HasSubstr("gives up all but 176 registers, but has 168"));
  EXPECT_THAT(fault([] {
                give_up_registers<40>();
                claim_registers<32>();
              }),
              HasSubstr("claims 32 registers, but has 40"));
}

TEST(Registers, WarpsOfAWarpgroupThatDoNotMakeTheSameCallAreReported) {
  EXPECT_THAT(fault_of(kThree, with_primitives([] {
                         if (thread_index() / 32 == 2) {
                           give_up_registers<48>();
                         } else {
                           give_up_registers<40>();
                         }
                       })),
              ContainsRegex(
                  "thread 64, line [1-9][0-9]*: gives up all but 48 registers, while its warpgroup gives up "
                  "all but 40 at line [1-9][0-9]*"));
  EXPECT_THAT(
      fault_of(kThree, with_primitives([] {
                 if (thread_index() / 32 != 2) give_up_registers<40>();
               })),
      ContainsRegex("block 0: thread 64 has ended, but its warpgroup gives up all but 40 registers at line"));
}

}  // namespace
}  // namespace lutsmith::emulator_test
