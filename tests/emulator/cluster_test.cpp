// Clusters: blocks that run together and reach each other's shared memory, and what goes wrong between them.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <set>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "emulation.h"
#include "lambda_kernels.h"
#include "must.h"

namespace lutsmith::emulator_test {
namespace {

using testing::AllOf;
using testing::AnyOf;
using testing::ContainsRegex;
using testing::HasSubstr;

constexpr GridShape kPair{.blocks = 2, .threads = 32, .shared_bytes = 4096, .cluster_blocks = 2};
constexpr BlockOrder kOrders[] = {BlockOrder::ascending, BlockOrder::descending, BlockOrder::interleaved};

constexpr unsigned int kStored = 16;  // bytes of a store
constexpr unsigned int kPushed = 32 * kStored;

/// The bytes that come from the other block are counted here,
unsigned long long* full_of(Machine& machine) {
  return reinterpret_cast<unsigned long long*>(machine.dynamic_shared() + 2048);
}
/// and here that it has used what came from this one.
unsigned long long* free_of(Machine& machine) { return full_of(machine) + 1; }

void meet_cluster(Machine& machine) {
  machine.arrive_at_cluster();
  machine.wait_for_cluster();
}

/// Stores four times a value at a byte of the other block.
void push(Machine& machine, int byte, std::uint32_t value, int rank) {
  const std::array<std::uint32_t, 4> values = {value, value, value, value};
  machine.store_async(machine.dynamic_shared() + byte, rank, values.data(), full_of(machine));
}

// Shapes and ranks.

TEST(EmulatedCluster, SizeThatNoGridHasIsRefused) {
  const auto refused = [](int blocks, int cluster_blocks) {
    const auto ran = run_grid({.blocks = blocks, .cluster_blocks = cluster_blocks}, {}, BlockOrder::ascending,
                              [](Machine&) {});
    if (ran) return std::string("nothing");
    EXPECT_EQ(ran.error().code, ErrorCode::invalid_argument);
    return ran.error().message;
  };
  for (const int size : {0, -1, 3, 16}) EXPECT_THAT(refused(16, size), HasSubstr("cluster_blocks")) << size;
  for (const int size : {1, 2, 4, 8}) EXPECT_EQ(refused(16, size), "nothing") << size;
}

TEST(EmulatedCluster, BlocksOfOneRunTogetherInEveryOrder) {
  for (const BlockOrder order : kOrders) {
    for (const int size : {2, 4, 8}) {
      std::set<int> met;
      std::vector<int> clusters;
      EXPECT_EQ(fault_of(
                    {.blocks = 16, .threads = 32, .cluster_blocks = size},
                    [&](Machine& machine) {
                      begin(machine, 1);
                      EXPECT_EQ(machine.cluster_rank(), machine.block_index() % size);
                      met.insert(machine.block_index());
                      meet_cluster(machine);
                      const int first = machine.block_index() - machine.cluster_rank();
                      for (int i = 0; i < size; ++i) EXPECT_TRUE(met.contains(first + i));
                      if (machine.thread_index() == 0 && machine.cluster_rank() == 0) {
                        clusters.push_back(machine.block_index() / size);
                      }
                    },
                    {}, order),
                "");
      EXPECT_EQ(met.size(), 16U);
      EXPECT_EQ(clusters.size(), static_cast<std::size_t>(16 / size));
      if (order == BlockOrder::descending) {
        EXPECT_TRUE(std::ranges::is_sorted(clusters, std::greater<>()));
      }
    }
  }
}

TEST(EmulatedCluster, InterleavedOnesAreUnderWayTogether) {
  for (const auto& [order, cluster_blocks, together] : {std::tuple{BlockOrder::ascending, 2, 2},
                                                        {BlockOrder::descending, 2, 2},
                                                        {BlockOrder::interleaved, 2, 4},
                                                        {BlockOrder::interleaved, 4, 8}}) {
    int begun = 0;
    int seen_by_first = 0;
    EXPECT_EQ(fault_of(
                  {.blocks = 16, .threads = 32, .cluster_blocks = cluster_blocks},
                  [&](Machine& machine) {
                    if (machine.thread_index() == 0) ++begun;
                    machine.block_barrier();
                    if (seen_by_first == 0) seen_by_first = begun;
                  },
                  {}, order),
              "");
    EXPECT_EQ(seen_by_first, together);
  }
}

// The barrier.

TEST(EmulatedCluster, BarrierIsWhereAllThatEachDidIsKnown) {
  Memory memory;
  const auto kernel = [&](bool arrives_before) {
    return [&, arrives_before](Machine& machine) {
      begin(machine, 3);
      const float value = 2;
      if (arrives_before) machine.arrive_at_cluster();
      if (machine.block_index() == 1 && machine.thread_index() == 4) {
        machine.store_global(Region::partial_sums, memory.partial_sums, &value, sizeof(value));
      }
      if (!arrives_before) machine.arrive_at_cluster();
      machine.line = 5;
      machine.wait_for_cluster();
      float read = 0;
      if (machine.block_index() == 0) {
        machine.load_global(Region::partial_sums, &read, memory.partial_sums, sizeof(read));
        EXPECT_EQ(read, value);
      }
    };
  };
  for (const BlockOrder order : kOrders) {
    EXPECT_EQ(fault_of(kPair, kernel(false), memory.regions(), order), "");
    EXPECT_THAT(fault_of(kPair, kernel(true), memory.regions(), order),
                AnyOf(HasSubstr("that thread 4 of block 1 wrote at line 3, with nothing that orders the two"),
                      HasSubstr("which nobody has written")));
  }
}

TEST(EmulatedCluster, BarrierPassesOnWhatOtherClustersHaveTold) {
  for (const bool met : {true, false}) {
    Memory memory;
    GridShape two = kPair;
    two.blocks = 4;
    const std::string fault = fault_of(
        two,
        [&](Machine& machine) {
          begin(machine, 3);
          float value = 2;
          const bool first = machine.thread_index() == 0;
          if (machine.block_index() == 0 && first) {
            machine.store_global(Region::partial_sums, memory.partial_sums, &value, sizeof(value));
          }
          if (machine.cluster_rank() == 0 && first && machine.count_arrival(memory.arrivals) == 1) {
            const std::uint32_t zero = 0;
            machine.store_global(Region::arrivals, memory.arrivals, &zero, sizeof(zero));
          }
          if (met) meet_cluster(machine);
          if (machine.block_index() == 3) {
            machine.load_global(Region::partial_sums, &value, memory.partial_sums, sizeof(value));
          }
        },
        memory.regions());
    if (met) {
      EXPECT_EQ(fault, "");
    } else {
      EXPECT_THAT(fault, HasSubstr("that thread 0 of block 0 wrote at line 3, with nothing that orders"));
    }
  }
}

TEST(EmulatedCluster, ArrivalCounterOrdersItsBlocksToo) {
  for (const bool counts : {true, false}) {
    Memory memory;
    const std::string fault = fault_of(
        kPair,
        [&](Machine& machine) {
          begin(machine, 3);
          const std::uint32_t zero = 0;
          float value = 2;
          const bool first = machine.thread_index() == 0;
          if (machine.block_index() == 0 && first) {
            machine.store_global(Region::partial_sums, memory.partial_sums, &value, sizeof(value));
            machine.count_arrival(memory.arrivals);
          }
          for (int i = 0; i < 3; ++i) machine.ballot(true);  // until the other block has done that
          if (machine.block_index() == 1 && first) {
            if (counts) {
              EXPECT_EQ(machine.count_arrival(memory.arrivals), 1U);
            }
            machine.load_global(Region::partial_sums, &value, memory.partial_sums, sizeof(value));
            machine.store_global(Region::arrivals, memory.arrivals, &zero, sizeof(zero));
          }
        },
        memory.regions());
    if (counts) {
      EXPECT_EQ(fault, "");
    } else {
      EXPECT_THAT(fault, HasSubstr("that thread 0 of block 0 wrote at line 3, with nothing that orders"));
    }
  }
}

TEST(EmulatedCluster, BarrierArrivedAtTwiceIsReported) {
  EXPECT_THAT(fault_of(kPair,
                       [](Machine& machine) {
                         begin(machine, 6);
                         machine.arrive_at_cluster();
                         machine.arrive_at_cluster();
                       }),
              HasSubstr("line 6: arrives at the cluster's barrier a second time, without having waited"));
}

TEST(EmulatedCluster, BarrierWaitedForWithoutAnArrivalIsReported) {
  for (const int meetings : {0, 1}) {
    EXPECT_THAT(fault_of(kPair,
                         [&](Machine& machine) {
                           begin(machine, 6);
                           for (int i = 0; i < meetings; ++i) meet_cluster(machine);
                           machine.wait_for_cluster();
                         }),
                HasSubstr("waits for the cluster's barrier without having arrived at it"));
  }
}

TEST(EmulatedCluster, ThreadsThatHaveEndedCountAsArrived) {
  for (const BlockOrder order : kOrders) {
    EXPECT_EQ(fault_of(
                  kPair,
                  [](Machine& machine) {
                    begin(machine, 1);
                    const int thread = machine.thread_index();
                    if (thread < 4) return;
                    machine.arrive_at_cluster();
                    if (thread < 8) return;
                    machine.wait_for_cluster();
                    if (machine.block_index() == 1) return;
                    for (int i = 0; i < 3; ++i) meet_cluster(machine);
                  },
                  {}, order),
              "");
  }
}

TEST(EmulatedCluster, ThreadThatEndsAfterItsArrivalCountsOnce) {
  Memory memory;
  for (const BlockOrder order : kOrders) {
    EXPECT_EQ(fault_of(
                  kPair,
                  [&](Machine& machine) {
                    begin(machine, 1);
                    float value = 2;
                    const bool writes = machine.block_index() == 1;
                    if (writes && machine.thread_index() == 31) {  // the last to arrive
                      machine.store_global(Region::partial_sums, memory.partial_sums, &value, sizeof(value));
                    }
                    machine.arrive_at_cluster();
                    if (machine.thread_index() < 8) return;
                    machine.wait_for_cluster();
                    if (!writes) {
                      machine.load_global(Region::partial_sums, &value, memory.partial_sums, sizeof(value));
                    }
                  },
                  memory.regions(), order),
              "");
  }
}

TEST(EmulatedCluster, ThreadThatEndsTellsNothing) {
  // Nor does one that has arrived tell what it does behind that.
  Memory memory;
  EXPECT_THAT(fault_of(
                  {.blocks = 2, .threads = 64, .cluster_blocks = 2},
                  [&](Machine& machine) {
                    begin(machine, 1);
                    float value = 2;
                    if (machine.block_index() == 1) {
                      if (machine.thread_index() == 0) {
                        machine.store_global(Region::partial_sums, memory.partial_sums, &value,
                                             sizeof(value));
                      }
                      return;
                    }
                    meet_cluster(machine);
                    machine.load_global(Region::partial_sums, &value, memory.partial_sums, sizeof(value));
                  },
                  memory.regions()),
              HasSubstr("thread 0 of block 1 wrote at line 1, with nothing that orders the two"));
}

TEST(EmulatedCluster, BarrierThatOneThreadNeverReachesIsADeadlockWithEveryPlace) {
  EXPECT_THAT(fault_of(kPair,
                       [](Machine& machine) {
                         begin(machine, 8);
                         if (machine.block_index() == 1 && machine.thread_index() == 5) {
                           machine.line = 9;
                           machine.block_barrier();
                         }
                         meet_cluster(machine);
                       }),
              AllOf(HasSubstr("deadlock"),
                    HasSubstr("block 0: 32 threads from 0 on at line 8, waiting for the cluster's barrier"),
                    HasSubstr("block 1: 31 threads from 0 on at line 8, waiting for the cluster's barrier"),
                    HasSubstr("block 1: 1 thread from 5 on at line 9, waiting for the block's barrier")));
}

// The exchange.

struct Exchange {
  bool initialises = true;
  bool fences = true;
  bool meets_first = true;        ///< the other block, before anything is pushed
  bool meets_initialised = true;  ///< and not before it has initialised its mbarriers
  bool waits_for_free = true;
  bool waits_for_full = true;
  bool uses = true;  ///< what it has read
  bool meets_last = true;
  unsigned int expected = kPushed;
  int byte = 0;               ///< where the first lane pushes to
  int arriving = 32;          ///< lanes that tell the other block that they have used what came
  int pushing_to = -1;        ///< rank; -1: the other block
  int ranks_that_expect = 2;  ///< whose lane 0 arrives with the bytes
};

/// Both blocks of a cluster push 16 bytes from every lane to the other, in several turns, and read what the
/// next lane of the other has pushed.
Kernel exchanging(const Exchange& how, int turns = 5) {
  return [how, turns](Machine& machine) {
    begin(machine, 1);
    const int lane = machine.thread_index();
    const int rank = machine.cluster_rank();
    const int other = how.pushing_to < 0 ? 1 - rank : how.pushing_to;
    const auto value = [](int turn, int block, int thread) {
      return static_cast<std::uint32_t>(1000 * turn + 100 * block + thread);
    };
    if (!how.meets_initialised) meet_cluster(machine);
    machine.line = 2;
    if (lane == 0 && how.initialises) {
      machine.initialize_barrier(full_of(machine), 1);
      machine.initialize_barrier(free_of(machine), 32);
      if (how.fences) machine.fence_barrier_initialization();
    }
    machine.block_barrier();
    machine.line = 3;
    if (how.meets_first && how.meets_initialised) meet_cluster(machine);
    for (int turn = 0; turn < turns; ++turn) {
      machine.line = 10;
      if (turn > 0 && how.waits_for_free) {
        machine.wait_barrier(free_of(machine), static_cast<unsigned int>((turn - 1) % 2));
      }
      machine.line = 11;
      if (lane == 0 && rank < how.ranks_that_expect) {
        machine.arrive_expecting(full_of(machine), how.expected);
      }
      machine.line = 12;
      push(machine, how.byte + lane * static_cast<int>(kStored), value(turn, rank, lane), other);
      machine.line = 13;
      if (how.waits_for_full) machine.wait_barrier(full_of(machine), static_cast<unsigned int>(turn % 2));
      machine.line = 14;
      const int next = (lane + 1) % 32;
      EXPECT_EQ(load(machine, next * static_cast<int>(kStored) + 4), value(turn, 1 - rank, next));
      if (how.uses) machine.shuffle(0, 0);
      machine.line = 15;
      if (lane < how.arriving) machine.arrive_remote(free_of(machine), other);
    }
    machine.line = 16;
    if (how.meets_last) meet_cluster(machine);
  };
}

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

// What is reported of one block of a cluster alone.

TEST(EmulatedCluster, RaceWithinABlockNamesItsThreads) {
  EXPECT_THAT(fault_of({.blocks = 2, .threads = 64, .shared_bytes = 64, .cluster_blocks = 2},
                       [](Machine& machine) {
                         begin(machine, 2);
                         if (machine.block_index() == 0) return;
                         if (machine.thread_index() == 40) store(machine, 0, 1);
                         machine.line = 3;
                         machine.warp_barrier();
                         if (machine.thread_index() == 1) {
                           for (int i = 0; i < 3; ++i) machine.shuffle(0, 0);
                           store(machine, 0, 2);
                         } else if (machine.thread_index() < 32) {
                           for (int i = 0; i < 3; ++i) machine.shuffle(0, 0);
                         }
                       }),
              HasSubstr("block 1, thread 1, line 3: writes shared byte 0 that thread 40 of block 1 wrote at "
                        "line 2, with no barrier between"));
}

TEST(EmulatedCluster, NamedBarrierOfOthersNamesThemAsTheirBlockDoes) {
  EXPECT_THAT(
      fault_of({.blocks = 2, .threads = 128, .cluster_blocks = 2},
               [](Machine& machine) {
                 begin(machine, 1);
                 if (machine.block_index() == 1) machine.named_barrier(1, 64);
               }),
      ContainsRegex("block 1, thread [0-9]+, line 1: is at named barrier 1, where thread [0-9][0-9]? met"));
}

// Launches of a source.

/// The blocks of a cluster give each other pieces of X, one every other, and write what came.
constexpr std::string_view kKernel = R"(
using namespace lutsmith;
using namespace lutsmith::device;
extern "C" __global__ void exchanges_pieces(
    const __grid_constant__ KernelParameter<table_length(4, false)> parameter) {
  float4* pieces = reinterpret_cast<float4*>(dynamic_shared());
  Mbarrier* barrier = reinterpret_cast<Mbarrier*>(dynamic_shared() + 1024);
  const LaunchArguments& launch = parameter.launch;
  const int piece = thread_index();
  const int rank = cluster_rank();
  if (piece == 0) {
    initialize_barrier(barrier, 2);
    fence_barrier_initialization();
    arrive_expecting(barrier, 16 * ((3 * launch.tokens + rank) / 2));
  }
  arrive_at_cluster();
  wait_for_cluster();
  if (piece == 0) arrive_remote(barrier, 1 - rank);
  if (piece >= 3 * launch.tokens) return;
  const int token = piece / 3;
  if (piece % 2 == rank) {
    const uint4 x = load_activations_16(
        launch.activations + token * launch.activation_stride + piece % 3 * 8, true);
    store_async_16(pieces + piece, *reinterpret_cast<const float4*>(&x), barrier, 1 - rank);
    return;
  }
  wait_barrier_of_cluster(barrier, 0);
  const float4 y = load_shared(pieces + piece);
  store_output_16(launch.output + token * launch.output_stride + piece % 3 * 8,
                  *reinterpret_cast<const uint4*>(&y));
}
)";

TEST(ClusterLaunch, HasAsManyBlocksForAPartitionAsTheRecipeSays) {
  std::string text;
  for (const std::string_view name :
       {"templates/abi/host_device.h", "templates/abi/element.h", "templates/abi/kernel_arguments.h"}) {
    text += body_of_template(name);
  }
  text += kKernel;
  const KernelSpec spec = {
      .format = {.bits = 4, .n = 24, .k = 24}, .m = 3, .target = must(Target::parse("sm_90a"))};
  Source source{.text = text,
                .kernel_name = "exchanges_pieces",
                .launch = {.threads = 32,
                           .shared_bytes = 2048,
                           .tile_rows = 32,
                           .tile_tokens = 4,
                           .row_tiles = 1,
                           .steps_per_tile = 1,
                           .cluster_blocks = 2}};
  const Problem problem = make_problem(spec, 3);
  for (const BlockOrder order : kOrders) {
    const auto kernel = must(emulator::EmulatedKernel::compile(host_compiler(), spec, source));
    EXPECT_EQ(must(emulate(kernel, source, problem, {.order = order})), problem.activations);
  }
  source.launch.cluster_blocks = 1;
  const auto alone = must(emulator::EmulatedKernel::compile(host_compiler(), spec, source));
  const auto ran = emulate(alone, source, problem);
  ASSERT_FALSE(ran);
  EXPECT_THAT(ran.error().message, HasSubstr("reaches into block 1 of its cluster, which has 1"));
}

}  // namespace
}  // namespace lutsmith::emulator_test
