// Clusters: blocks that run together, and the barrier of all their threads.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <set>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "cluster_kernels.h"
#include "emulation.h"
#include "lambda_kernels.h"
#include "must.h"

namespace lutsmith::emulator_test {
namespace {

using testing::AllOf;
using testing::AnyOf;
using testing::ContainsRegex;
using testing::HasSubstr;

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
  auto* const output = static_cast<unsigned short*>(launch.output);
  store_output_16(output + token * launch.output_stride + piece % 3 * 8,
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
